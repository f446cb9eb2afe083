"""Studies where teams already look: MLflow, Weights & Biases, TensorBoard.

Trackers get stored results only. One that is slow, down or broken causes a warning, and never
affects a measurement; what it does not have yet can be logged later:

    python -m numa_bench.tracking sync outputs/numa_study/2026-01-31/14-30-15
"""

"""Studies where teams already look: MLflow, Weights & Biases, TensorBoard.

Fed from stored results only. A tracker that is slow, down or broken costs a warning, never a
measurement; what it missed is logged later:

    python -m numa_bench.tracking sync outputs/numa_study/2026-01-31/14-30-15
"""

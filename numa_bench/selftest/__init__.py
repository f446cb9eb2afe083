"""Is this host and this build fit to measure? Named checks with figures, limits and verdicts.

    python -m numa_bench.selftest

A check is one function below `subjects/`, listed as a `Check` in its module's `CHECKS`; modules are
listed in `registry.SUBJECTS`. `command.py` runs in the user's process and starts `bound_process.py`
under numactl, which measures.
"""

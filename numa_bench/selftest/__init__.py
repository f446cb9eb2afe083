"""Is this host and this build fit to measure? Named checks with figures, limits and verdicts.

    python -m numa_bench.selftest

A check is one `Check` in the `CHECKS` of a module that `registry.SUBJECTS` names.
"""

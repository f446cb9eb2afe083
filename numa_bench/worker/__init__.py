"""The process that measures: one run spec in, one result out.

    python -m numa_bench.worker --spec spec.json --result result.json

It reaches no Hydra, no tracker, no store and no pandas.
"""

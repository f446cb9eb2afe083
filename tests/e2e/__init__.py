"""Whole studies on a simulated machine: command line, runner, worker, records and analysis.

Nothing of the product is replaced but the hardware (`tests.simulation`). `in_process` runs workers
as calls instead of processes, for studies of hundreds of runs.
"""

"""Kernels that load the memory of the host: read, write, copy and a pointer chase, from C or numba.

The C library is built by `python -m numa_bench.worker.memory_kernels.build`, which setup.sh runs.
"""

"""A CUDA device, and a machine of several nodes, for tests on computers that have neither.

`ordering` runs the product's pipelines in every order that streams and events allow and names
missing waits; `timing` gives every operation the time that a modelled machine says. `machine` is
the whole host. The fixture `simulate` (tests/conftest.py) puts one in place of this computer:

    simulate(dual_socket_8_gpus(remote_link=0.5))

for the test's own process and those it starts, through the variables that
`SimulatedMachine.install` returns: NUMA_BENCH_BACKEND (numa_bench/machine/backend.py),
SIMULATED_MACHINE, and a PATH with a numactl that records the binding in SIMULATED_BINDING.
"""

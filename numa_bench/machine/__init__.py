"""What a machine is made of and what it is doing: NUMA nodes, GPUs, sensors, page placement."""

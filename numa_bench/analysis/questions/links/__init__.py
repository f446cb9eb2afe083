"""Questions that a bandwidth study answers: matrix of nodes, curves over size, latencies."""

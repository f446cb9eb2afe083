"""Tests of numa_bench/runner/display/."""

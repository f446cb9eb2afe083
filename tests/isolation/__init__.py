"""Tests of numa_bench/isolation."""

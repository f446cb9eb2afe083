"""Tests of runs of programs that are not ours."""

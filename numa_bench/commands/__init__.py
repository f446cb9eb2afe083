"""The applications: what each command line does, from its arguments to its exit code."""

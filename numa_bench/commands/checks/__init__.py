"""What is wrong with the settings of jobs, of one or of all jobs of a sweep, before any starts."""

"""The sets of a contention study: scenarios, workers, background loads."""

"""Questions besides placement that a study can answer, one file each; see `question.Question`."""

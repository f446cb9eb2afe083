"""Statistics: effects with intervals, verdicts, and the questions that a study answers."""

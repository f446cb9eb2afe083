"""What bounds each run, predicted before it runs, and what a study cannot show."""

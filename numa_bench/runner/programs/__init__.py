"""Runs of programs that are not ours: started, watched and read by the runner itself."""

"""What to do on the measured machine: bind or not, what that gains, and lines to paste."""

"""Batches through H2D copy, model and D2H copy: the stages on each device, warm-up, figures."""

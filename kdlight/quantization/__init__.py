"""Weights on a few values: functions, and parametrizations that train through them."""

"""Evaluate a student beside its teacher, and draw the figures."""

"""Objectives with a network that decides how much each teacher, or the label, counts."""

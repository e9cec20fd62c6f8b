"""Recipes, which build a student from its teacher's network, and write it for use without kdlight.

Import them from `kdlight.models`.
"""

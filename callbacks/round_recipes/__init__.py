"""Recipes of rounds in which new traces are made, and the files that keep what was made."""

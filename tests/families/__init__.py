"""Families of models, and laws that hold for each of them."""

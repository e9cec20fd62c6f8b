"""A smaller copy of a model: fewer layers.

Import its functions from `kdlight.models`.
"""

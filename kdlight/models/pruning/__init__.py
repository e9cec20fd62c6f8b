"""A smaller copy of a model: fewer layers, or smaller ones; and how important each part is.

Import its functions from `kdlight.models`.
"""

"""A model converted to another architecture: attention replaced by state space layers.

Import `HybridMamba` from `kdlight.models`.
"""

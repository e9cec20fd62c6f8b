"""Text of several domains, drawn by weights that may change during a run."""

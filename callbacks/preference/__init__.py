"""Monitor the log-probabilities of chosen and rejected sequences."""

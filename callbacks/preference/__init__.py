"""Watch the log-probabilities of chosen and rejected sequences."""

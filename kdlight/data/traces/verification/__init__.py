"""Compare responses with answers: numbers, verifiers, and the scores of traces."""

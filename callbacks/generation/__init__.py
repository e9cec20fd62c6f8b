"""Generate text with a student, and replace the sequences of a batch by it."""

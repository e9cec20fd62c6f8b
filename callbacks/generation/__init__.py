"""Text that a student generates in training, and its place in a batch."""

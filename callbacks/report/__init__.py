"""Compare a student with its teacher on validation data, as a table and as pictures."""

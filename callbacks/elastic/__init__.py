"""What trains the sub-networks of a student by turns: depths, forward passes, held-out KL."""

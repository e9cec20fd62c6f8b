"""Losses on features: hidden states, channel maps and rows of a batch, instead of logits."""

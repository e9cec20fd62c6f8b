"""Objectives on features: tensors from inside both networks, in place of their logits."""

"""The tokens that end a text."""

from __future__ import annotations

from typing import Any


def end_tokens(network: Any, tokenizer: Any) -> list[int]:
    """Return the ids of the end tokens of a network's generation config and of a tokenizer.

    Args:
        network: a Hugging Face model, or a network whose ``model`` is one.
        tokenizer: a Hugging Face tokenizer, or None.

    Example:
        >>> from types import SimpleNamespace
        >>> tokenizer = SimpleNamespace(eos_token_id=2)
        >>> network = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=[0, 1]))
        >>> end_tokens(network, tokenizer), end_tokens(network, None)
        ([0, 1, 2], [0, 1])
    """
    model = getattr(network, "model", network)
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = {*(configured if isinstance(configured, (list, tuple)) else [configured])}
    ids.add(getattr(tokenizer, "eos_token_id", None))
    return sorted(each for each in ids if each is not None)

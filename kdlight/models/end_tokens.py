"""The tokens that end a text, and the text of generated tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any


def end_tokens(network: Any, tokenizer: Any) -> list[int]:
    """Return the ids of all tokens that end a text, for a network and a tokenizer.

    These are the tokens of the network's generation config (a model can end a turn and a text with
    different ones) and the end-of-text token of the tokenizer.

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
    configured = getattr(generation_config(network), "eos_token_id", None)
    ids = {*(configured if isinstance(configured, (list, tuple)) else [configured])}
    ids.add(getattr(tokenizer, "eos_token_id", None))
    return sorted(each for each in ids if each is not None)


def generation_config(network: Any) -> Any:
    """Return the generation config of a Hugging Face model, or of the model in a network, or None.

    Example:
        >>> generation_config(object()) is None
        True
    """
    # the decoder inside a Hugging Face model is called `model` too, and has no generation config
    configs = (
        getattr(each, "generation_config", None)
        for each in (network, getattr(network, "model", None))
    )
    return next((each for each in configs if each is not None), None)


def cut_at_end(ids: Sequence[int], ends: Collection[int]) -> tuple[list[int], bool]:
    """Return the tokens before the first end token, and whether there is one.

    Example:
        >>> cut_at_end([7, 8, 2, 2], ends=[0, 2])
        ([7, 8], True)
    """
    first = next((i for i, token in enumerate(ids) if token in ends), None)
    return list(ids[:first]), first is not None


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Return the text of tokens, with special tokens, and with spaces as they are.

    A special token can be a part of a response, such as the marks around reasoning. End tokens and
    padding are to be removed before, see `cut_at_end`.
    """
    return tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )

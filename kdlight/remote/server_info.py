"""What a server tells about the teacher behind it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerInfo:
    """The answers to what is asked once, before training.

    Attributes:
        software: name and version, such as ``"vLLM 0.32.0"``.
        model: the name of the model, which requests repeat.
        vocab_size: width V of the logits; None if it is not told.
        max_k: largest number of tokens of a position that are returned; None for any.
        context_length: longest sequence; None if it is not told.
        tokenizer: fingerprint of the tokenizer; None if it is not told.
        weights: fingerprint of the weights; None if it is not told.
        dtype: of the weights; None if it is not told.
        scores_ids: whether ids can be scored that the client chooses.
        states: dtype of hidden states, if they are returned; None if not.
        max_tokens: most tokens of a request; None if it is not told.
        max_entries: most log-probabilities of an answer; None if it is not told.

    Example:
        >>> ServerInfo("vLLM 0.32.0", "teacher", max_k=20).max_k
        20
    """

    software: str
    model: str
    vocab_size: int | None = None
    max_k: int | None = None
    context_length: int | None = None
    tokenizer: str | None = None
    weights: str | None = None
    dtype: str | None = None
    scores_ids: bool = False
    states: str | None = None
    max_tokens: int | None = None
    max_entries: int | None = None

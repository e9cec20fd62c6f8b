"""What one request to a server may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdlight.checks import check_integer
from kdlight.remote.wire import TeacherRequest

TOO_LARGE, BAD = 413, 400
"""HTTP statuses of what is too large, and of what is wrong."""


class Refusal(ValueError):
    """A request that a server refuses, and would refuse again.

    Attributes:
        status: the HTTP status.

    Example:
        >>> Refusal(413, "too many tokens").status
        413
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What one request may ask for, and how many may wait.

    Attributes:
        k: largest number of tokens of a position; None for the whole vocabulary.
        max_tokens: largest number of tokens of all sequences of a request.
        queue: number of requests that may wait while the teacher runs.
        entries: largest number of log-probabilities of an answer.

    Raises:
        TypeError: a number that is no integer.
        ValueError: a number below 1.

    Example:
        >>> Limits(k=50).max_bytes < Limits(k=100).max_bytes
        True
    """

    k: int | None = 50
    max_tokens: int = 2**14
    queue: int = 64
    entries: int = 2**26

    def __post_init__(self) -> None:
        if self.k is not None:
            check_integer("k", self.k, 1)
        for name in ("max_tokens", "queue", "entries"):
            check_integer(name, getattr(self, name), 1)

    @property
    def max_bytes(self) -> int:
        """Largest number of bytes of a request: 4 for each token, length and id to score."""
        ids = self.max_tokens * self.k if self.k is not None else self.entries
        return 2**12 + 4 * (2 * self.max_tokens + ids)

    def check(self, request: TeacherRequest, info: dict[str, Any]) -> None:
        """Raise a `Refusal` for a request that asks for more.

        Args:
            request: the request.
            info: what the server tells about its teacher.
        """
        tokens, longest = sum(request.lengths), max(request.lengths)
        if tokens > self.max_tokens:
            raise Refusal(
                TOO_LARGE,
                f"the request has {tokens} tokens, at most {self.max_tokens} are allowed; send"
                " fewer sequences in one request, or start the server with a larger --max_tokens",
            )
        context = info["context_length"]
        if context is not None and longest > context:
            raise Refusal(
                BAD,
                f"a sequence has {longest} tokens, but the context of the teacher is {context}"
                " tokens; use shorter sequences",
            )
        self._check_tokens(request, info)
        if request.kind == "states":
            if info["states"] is None:
                raise Refusal(
                    BAD,
                    "this server returns no hidden states; start it with --states bfloat16 or"
                    " float32, or ask for the top k",
                )
            return
        self._check_k(request, info["vocab_size"], tokens)

    def _check_k(self, request: TeacherRequest, vocabulary: int, tokens: int) -> None:
        is_top = request.kind == "score"
        asked = (request.k or vocabulary) if is_top else request.ids[0].shape[1]
        allowed = vocabulary if self.k is None else self.k
        # a small vocabulary has fewer tokens than the k of a client
        if min(asked, vocabulary) > allowed:
            shown = "all tokens" if is_top and request.k is None else f"{asked} tokens"
            raise Refusal(
                BAD,
                f"{shown} of each position are asked for, but the k of this server is {allowed};"
                f" ask for at most {allowed}, or start the server with --k {asked}",
            )
        if tokens * min(asked, vocabulary) > self.entries:
            raise Refusal(
                TOO_LARGE,
                f"{tokens} positions with {asked} tokens each are more than the {self.entries}"
                " log-probabilities of an answer; send fewer sequences in one request, or ask for"
                " a smaller k",
            )

    def _check_tokens(self, request: TeacherRequest, info: dict[str, Any]) -> None:
        read, scored = info["input_size"], info["vocab_size"]
        for tokens in request.sequences:
            _check_ids(min(tokens), max(tokens), read)
        for ids in request.ids:
            _check_ids(int(ids.min()), int(ids.max()), scored)


def _check_ids(low: int, high: int, size: int) -> None:
    if low < 0 or high >= size:
        raise Refusal(
            BAD,
            f"token id {low if low < 0 else high} is not among the {size} tokens of the teacher;"
            " the tokenizer of the client is another one",
        )

"""What a server answers to a request by token ids, checked before a token of it is used."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, NamedTuple


class Continuation(NamedTuple):
    """The continuation of a sequence by a server.

    Attributes:
        ids: the new tokens.
        versions: labels of the weights that wrote them; empty if the server does not tell.
    """

    ids: list[int]
    versions: frozenset[str]


def parse_continuation(
    answer: Any, most: int, end: Sequence[int], vocab_size: int | None
) -> Continuation:
    """Return the tokens of an answer.

    Args:
        answer: the JSON value.
        most: the number of tokens that was asked for.
        end: ids of the tokens that end a text.
        vocab_size: number of tokens of the model, if it is known.

    Raises:
        ValueError: the answer is not complete, or is no answer to this request.

    Example:
        >>> choice = {"token_ids": [5, 0], "finish_reason": "stop"}
        >>> parse_continuation({"choices": [choice]}, most=8, end=[0], vocab_size=9).ids
        [5, 0]
    """
    choice = _choice(answer)
    ids = choice.get("token_ids")
    if not isinstance(ids, list) or not ids or not all(type(each) is int for each in ids):
        raise ValueError(f"token_ids are {ids!r}"[:120])
    if min(ids) < 0 or (vocab_size is not None and max(ids) >= vocab_size):
        raise ValueError(f"a token id is out of range: {min(ids)} to {max(ids)} of {vocab_size}")
    ended = next((i for i, token in enumerate(ids) if token in set(end)), None)
    complete = len(ids) == most if ended is None else ended == len(ids) - 1 < most
    if not complete:
        reason = choice.get("finish_reason")
        raise ValueError(
            f"{len(ids)} tokens of {most}, without an end at their end (finish_reason {reason!r})"
        )
    spans = choice.get("weight_versions") or []
    return Continuation(ids, frozenset(str(span["version"]) for span in spans))


def parse_scores(answer: Any, ids: Sequence[int]) -> list[float]:
    """Return the log-probability of each token after the first.

    Raises:
        ValueError: one is missing, is not finite, or is above 0.

    Example:
        >>> answer = {"choices": [{}], "prompt_logprobs": [None, {"7": {"logprob": -1.5}}]}
        >>> parse_scores(answer, [3, 7])
        [-1.5]
    """
    _choice(answer)
    rows = answer.get("prompt_logprobs")
    if not isinstance(rows, list) or len(rows) != len(ids):
        raise ValueError(f"prompt_logprobs are not those of {len(ids)} tokens: {rows!r}"[:120])
    try:
        later = zip(rows[1:], ids[1:], strict=True)  # nothing precedes the first token
        values = [float(row[str(token)]["logprob"]) for row, token in later]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"prompt_logprobs lack a token: {error!r}") from error
    wrong = [value for value in values if not (isfinite(value) and value <= 1e-3)]
    if wrong:
        raise ValueError(f"a log-probability is {wrong[0]}")
    return values


def _choice(answer: Any) -> dict[str, Any]:
    try:
        (choice,) = answer["choices"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"an answer without one choice: {answer!r}"[:120]) from error
    if not isinstance(choice, dict):
        raise ValueError(f"a choice is {choice!r}"[:120])
    return choice

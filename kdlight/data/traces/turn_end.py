"""The end of a turn, as a chat template writes it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any


def turn_end(response: str, after: str, tokenizer: Any) -> tuple[str, bool]:
    """Return the end of a turn, and whether it has special tokens.

    The end is what the template writes up to its first special tokens. A line break or an
    end-of-text token behind them belongs to the template, and is never generated. Tokens with which
    the response ends already are not repeated.
    """
    special = special_tokens(tokenizer)
    found = re.search(f"(?:{special})+", after) if special else None
    if found is None:
        has_end = bool(tokenizer.eos_token) and response.endswith(tokenizer.eos_token)
        return ("", True) if has_end else (after, False)
    tokens = re.findall(special, found.group())
    for count in range(len(tokens), 0, -1):
        if response.endswith("".join(tokens[:count])):
            return "".join(tokens[count:]), True
    return after[: found.end()], True


def special_tokens(tokenizer: Any) -> str:
    """Return a pattern of all special tokens of a tokenizer, the longest first."""
    return _special_tokens(tokenizer, len(tokenizer), tuple(tokenizer.all_special_tokens))


@lru_cache(maxsize=4)
def _special_tokens(tokenizer: Any, size: int, named: tuple[str, ...]) -> str:
    """Return the pattern; the other arguments tell when the tokens have changed."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    texts = {*named, *(str(token) for token in added if token.special)}
    return "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))

"""How tokens are drawn when a model generates text."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any

from kdlight.checks import check_integer, check_type


@dataclass(frozen=True)
class Sampling:
    """How a causal language model generates text.

    Attributes:
        temperature: the temperature of sampling; 0 always takes the most likely token.
        top_p: sample from the most likely tokens that together have this probability.
        max_new_tokens: maximal length of a generated text in tokens; None leaves it to the caller.
        seed: the seed of sampling.

    Raises:
        TypeError: A value that is no number.
        ValueError: A value outside its range.

    Example:
        >>> Sampling(temperature=0, max_new_tokens=8).options()
        {'max_new_tokens': 8, 'do_sample': False}
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p"):
            value = getattr(self, name)
            check_type(name, None if isinstance(value, bool) else value, Real, "a number")
        check_integer("seed", self.seed)
        if not 0 <= self.temperature < inf:
            raise ValueError(f"temperature must be finite and not negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.max_new_tokens is not None:
            check_integer("max_new_tokens", self.max_new_tokens, 1)

    def options(self) -> dict[str, Any]:
        """Return the arguments for ``generate`` of a Hugging Face model."""
        length = {} if self.max_new_tokens is None else {"max_new_tokens": self.max_new_tokens}
        if self.temperature == 0:
            return {**length, "do_sample": False}
        return {
            **length,
            "do_sample": True,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0,  # Hugging Face would sample from the 50 most likely tokens
        }

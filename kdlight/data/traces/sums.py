"""Sums of small numbers: a task whose answers can be verified, and that needs no files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from kdlight.checks import check_integer
from kdlight.data.traces.trace import Trace

FORM = re.compile(r"\d+([+-]\d+)*=")
TERM = re.compile(r"[+-]?\d+")


def sample_sums(
    size: int, *, seed: int, min_terms: int = 2, max_terms: int = 4, max_digits: int = 1
) -> list[Trace]:
    """Return different prompts such as ``3-4+9=``, with their answers and without responses.

    Args:
        size: number of prompts; if there are fewer different ones, fewer are returned.
        seed: seed of the prompts.
        min_terms: smallest number of terms.
        max_terms: largest number of terms.
        max_digits: largest number of digits of a term.

    Raises:
        TypeError: A value that is no integer.
        ValueError: A number below 1, or ``max_terms`` below ``min_terms``.

    Example:
        >>> [prompt.answer for prompt in sample_sums(3, seed=0)]
        ['-9', '10', '6']
    """
    check_integer("size", size, 1)
    check_integer("seed", seed)
    check_integer("min_terms", min_terms, 1)
    check_integer("max_terms", max_terms, min_terms)
    check_integer("max_digits", max_digits, 1)
    draw, texts = Random(seed), dict[str, None]()
    for _ in range(20 * size):  # most draws are new, unless there are few different sums
        numbers = [_draw_term(draw, max_digits) for _ in range(draw.randint(min_terms, max_terms))]
        texts[_text(numbers)] = None
        if len(texts) == size:
            break
    return [_prompt(text) for text in texts]


def solve_sums(prompts: Sequence[Trace]) -> list[Trace]:
    r"""Return the solution of each prompt of `sample_sums`: every partial sum on a line of its own.

    A teacher that is always right, for tests and examples.

    Args:
        prompts: prompts.

    Raises:
        ValueError: A prompt is no sum.

    Example:
        >>> solve_sums([Trace("3-4+9=", "")])[0].response
        '-1\n8'
    """
    return [replace(prompt, response="\n".join(_partial_sums(prompt))) for prompt in prompts]


class SimilarSums:
    """Makes sums like given ones: with as many terms, of which each is kept with probability 1/2.

    An ``augment`` of `kdlight.callbacks.CompetitiveRound`.

    Args:
        per_prompt: number of new prompts for each one.

    Raises:
        TypeError: If ``per_prompt`` is no integer.
        ValueError: If it is below 1.

    Example:
        >>> [made.prompt for made in SimilarSums(per_prompt=2)([Trace("3-4+9=", "")], seed=1)]
        ['3+1+9=', '3+7+9=']
    """

    def __init__(self, per_prompt: int = 2) -> None:
        check_integer("per_prompt", per_prompt, 1)
        self.per_prompt = per_prompt

    def __call__(self, prompts: Sequence[Trace], seed: int) -> list[Trace]:
        """Return new prompts, with their answers; some may be equal to others."""
        draw = Random(seed)
        return [
            _prompt(_text([_vary(term, draw) for term in _terms(prompt)]))
            for prompt in prompts
            for _ in range(self.per_prompt)
        ]


def _draw_term(draw: Random, digits: int) -> int:
    return draw.choice((1, -1)) * draw.randrange(10 ** draw.randint(1, digits))


def _vary(term: int, draw: Random) -> int:
    kept = draw.random() < 0.5
    return term if kept else _draw_term(draw, len(str(abs(term))))


def _text(numbers: Sequence[int]) -> str:
    first, *rest = numbers
    return f"{abs(first)}{''.join(f'{number:+d}' for number in rest)}="


def _prompt(text: str) -> Trace:
    prompt = Trace(text, "")
    return replace(prompt, answer=_partial_sums(prompt)[-1])


def _terms(prompt: Trace) -> list[int]:
    if not (isinstance(prompt.prompt, str) and FORM.fullmatch(prompt.prompt)):
        raise ValueError(f"a prompt must be a sum such as '3-4+9=', got {prompt.prompt!r:.100}")
    return [int(term) for term in TERM.findall(prompt.prompt)]


def _partial_sums(prompt: Trace) -> list[str]:
    terms = _terms(prompt)
    sums = [sum(terms[: count + 1]) for count in range(len(terms))]
    return [str(each) for each in sums[1:] or sums]

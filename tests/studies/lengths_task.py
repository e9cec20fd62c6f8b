"""The task of the study in lengths.py: sums of digits, answered by chains of five lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kdlight.data.traces import Sampling, Trace, answer
from kdlight.data.traces.verification.verifiers import reasoning_gym
from tests.studies.redi_task import TOKENIZER

LEVELS = (1, 2, 3, 4, 5)
ROOM = 64
"""The maximal number of tokens of an answer; the longest chain has 56."""


def solve(prompt: Trace, level: int) -> Trace:
    """The chain that teaches the teacher one of five lengths.

    Level 1 is the result alone, level 2 every second partial sum, level 3 every partial sum, level
    4 every step as an equation, level 5 every step and the same step backwards. The result stands
    on the last line.
    """
    first, *rest = prompt.meta["metadata"]["expression"].split()
    total, lines = int(first), []
    for sign, digit in zip(rest[::2], rest[1::2], strict=True):
        before, total = total, total + (int(digit) if sign == "+" else -int(digit))
        back = "-" if sign == "+" else "+"
        lines.append(
            {
                3: [f"{total}"],
                4: [f"{before}{sign}{digit}={total}"],
                5: [f"{before}{sign}{digit}={total}", f"{total}{back}{digit}={before}"],
            }.get(level, [f"{total}"])
        )
    if level == 1:
        lines = []
    elif level == 2:
        lines = lines[1::2]
    chain = [text for step in lines for text in step]
    if not chain or chain[-1] != str(total):
        chain.append(str(total))
    return replace(
        marked(prompt, level), response="\n".join(chain), score=1.0, meta={"level": level}
    )


def marked(prompt: Trace, level: int) -> Trace:
    """The prompt by which the teacher is asked for a length."""
    return replace(prompt, prompt=f"{level}:{prompt.prompt}", meta={**prompt.meta, "level": level})


def unmarked(trace: Trace) -> Trace:
    """The trace as a student sees it, without the number of the length."""
    assert isinstance(trace.prompt, str)
    return replace(trace, prompt=trace.prompt.partition(":")[2])


def measure(student: Any, prompts: list[Trace]) -> dict[str, float]:
    """Accuracy of greedy answers, their mean number of tokens, and the share that ends."""
    options = Sampling(max_new_tokens=ROOM, temperature=0.0).options()
    said = answer(student, TOKENIZER, prompts, chat=False, **options)
    return {
        "accuracy": sum(reasoning_gym(each) == 1.0 for each in said) / len(said),
        "tokens": sum(each.n_tokens or 0 for each in said) / len(said),
        "finished": sum(bool(each.finished) for each in said) / len(said),
    }

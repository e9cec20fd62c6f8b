"""What a server of a teacher tells, and how quickly it answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from kdlight.doctor.findings import Finding, error
from kdlight.endpoints import ServerError
from kdlight.teachers import Teacher, remote_teachers

FAILURES = (ServerError, ValueError, TypeError, ModuleNotFoundError)
"""What a server that does not fit, or is not there, raises."""


def unusable_servers(teacher: Any) -> Iterator[Finding]:
    """Ask each server of a teacher what it is; yield a finding where it cannot be used.

    Example:
        >>> list(unusable_servers(None))
        []
    """
    for each in remote_teachers(teacher) if isinstance(teacher, Teacher) else []:
        try:
            each.info  # noqa: B018
        except FAILURES as failure:
            yield error(str(failure))


def served_teachers(teacher: Any, batch: Any) -> Iterator[tuple[str, str] | Finding]:
    """Ask each server about ``batch``; yield facts, or a finding where it does not answer.

    Args:
        teacher: the teacher of a run, or None.
        batch: the first training batch.

    Example:
        >>> list(served_teachers(None, {}))
        []
    """
    for each in remote_teachers(teacher) if isinstance(teacher, Teacher) else []:
        try:
            yield "served teacher", _describe(each)
            yield "its answers", _measure(each, batch)
        except FAILURES as failure:
            yield error(str(failure))


def _describe(teacher: Any) -> str:
    info = teacher.info
    length = "unknown" if teacher.context_length is None else f"{teacher.context_length:,}"
    where = ", ".join(teacher.options.urls)
    return (
        f"{info.model} by {info.software} at {where}, {teacher.vocab_size:,} tokens, longest"
        f" sequence {length}"
    )


def _measure(teacher: Any, batch: Any) -> str:
    """Ask about the batch, and describe what came back."""
    before, begin = sum(each.received for each in teacher.endpoints), time.perf_counter()
    teacher.answer(batch)
    seconds = time.perf_counter() - begin
    received = sum(each.received for each in teacher.endpoints) - before
    positions = teacher.count_positions(batch)
    what = "hidden states" if teacher.options.states else f"k = {teacher.questions.k}"
    return (
        f"{what}, {positions / seconds:,.0f} positions/s,"
        f" {received / max(positions, 1):,.0f} bytes a position"
    )

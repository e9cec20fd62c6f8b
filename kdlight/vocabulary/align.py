"""Two vocabularies aligned by token id and string, never by size alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import torch

from kdlight.sources import Alignment

Policy: TypeAlias = Literal["strict", "shared", "map"]
POLICIES = ("strict", "shared", "map")
Tokens: TypeAlias = Mapping[str, int]


def align(
    student: Tokens,
    teacher: Tokens,
    *,
    policy: Policy = "strict",
    student_size: int | None = None,
    teacher_size: int | None = None,
) -> Alignment:
    """Align two vocabularies.

    Args:
        student: ids of the student's tokens, by string.
        teacher: ids of the teacher's.
        policy: ``"strict"`` wants the same strings under the same ids, and as many columns;
            ``"shared"`` takes the ids that stand for the same string, whatever the others are
            (columns without a token, as padding to a round number makes them, are no tokens);
            ``"map"`` wants the same strings, under any ids.
        student_size: number of columns of the student's logits, if there are more than tokens.
        teacher_size: the same of the teacher's.

    Raises:
        ValueError: they do not fit; it says how many ids agree, and what to do.

    Example:
        >>> align({"a": 0, "b": 1}, {"b": 0, "a": 1}, policy="map").teacher_ids
        tensor([1, 0])
    """
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {POLICIES}, got {policy!r}")
    sizes = (_size(student, student_size), _size(teacher, teacher_size))
    if policy == "map":
        pairs = _mapped(student, teacher)
    else:
        pairs = sorted((id, id) for token, id in student.items() if teacher.get(token) == id)
        if policy == "strict":
            _check_strict(student, teacher, sizes, agree=len(pairs))
        elif not pairs:
            raise ValueError(f"the vocabularies share no id. {_advice(student, teacher)}")
    mine, others = torch.tensor(pairs, dtype=torch.long).T
    return Alignment(mine, others, *sizes)


def _size(tokens: Tokens, columns: int | None) -> int:
    needed = max(tokens.values(), default=-1) + 1
    if columns is not None and columns < needed:
        raise ValueError(f"logits of {columns} columns cannot hold tokens up to id {needed - 1}")
    return columns or needed


def _check_strict(student: Tokens, teacher: Tokens, sizes: tuple[int, int], *, agree: int) -> None:
    same_tokens = agree == len(student) == len(teacher)
    if same_tokens and sizes[0] == sizes[1]:
        return
    if same_tokens:
        raise ValueError(
            f"all {agree} tokens of teacher and student agree, but their logits have {sizes[1]} and"
            f" {sizes[0]} columns: wrap the teacher in a kdlight.AlignedTeacher with"
            " policy='shared', which leaves out the columns without a token"
        )
    raise ValueError(
        f"the vocabularies of teacher and student differ: {agree} of {len(student)} ids of the"
        f" student stand for the same string in the teacher's {len(teacher)}"
        f"{_first_difference(student, teacher)}. {_advice(student, teacher)}"
    )


def _first_difference(student: Tokens, teacher: Tokens) -> str:
    mine, others = ({id: token for token, id in each.items()} for each in (student, teacher))
    for id in sorted(mine.keys() | others.keys()):
        if mine.get(id) != others.get(id):
            return f"; id {id} is {mine.get(id)!r} to the student and {others.get(id)!r} to it"
    return ""


def _advice(student: Tokens, teacher: Tokens) -> str:
    common = len(student.keys() & teacher.keys())
    if common == len(student) == len(teacher):
        choice = "The strings are the same: policy='map' of kdlight.AlignedTeacher reorders them"
    else:
        choice = (
            f"{common} strings are common to both. If they are one tokenizer with some tokens more,"
            " use policy='shared' of kdlight.AlignedTeacher; for two tokenizers use an objective"
            " made for them, such as ULD or MultiLevelOT"
        )
    return choice


def _mapped(student: Tokens, teacher: Tokens) -> list[tuple[int, int]]:
    alone = student.keys() ^ teacher.keys()
    if alone:
        raise ValueError(
            f"policy='map' wants the same strings on both sides, but {len(alone)} are in one"
            f" vocabulary only, such as {sorted(alone)[:3]}. {_advice(student, teacher)}"
        )
    return sorted((id, teacher[token]) for token, id in student.items())

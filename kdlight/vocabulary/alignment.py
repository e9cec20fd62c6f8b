"""Two vocabularies aligned by token id and string, never by their size only."""

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
        policy: ``"strict"`` requires the same strings with the same ids, and logits of the same
            width; ``"shared"`` uses the ids with the same string in both, and ignores all others
            (padding columns of the logits have no token and are ignored); ``"map"`` requires the
            same strings, with any ids.
        student_size: width of the student's logits, if it is larger than the vocabulary.
        teacher_size: width of the teacher's logits, if it is larger than the vocabulary.

    Returns:
        The ids of the student and of the teacher that correspond.

    Raises:
        ValueError: If the vocabularies do not fit. The message contains the number of ids that
            agree and advice.

    Example:
        >>> align({"a": 0, "b": 1}, {"b": 0, "a": 1}, policy="map").teacher_ids
        tensor([1, 0])
    """
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {POLICIES}, got {policy!r}")
    sizes = (_size(student, student_size), _size(teacher, teacher_size))
    if policy == "map":
        pairs = _pairs_by_string(student, teacher)
    else:
        pairs = sorted((id, id) for token, id in student.items() if teacher.get(token) == id)
        if policy == "strict":
            _check_strict(student, teacher, sizes, agree=len(pairs))
        elif not pairs:
            raise ValueError(f"the vocabularies have no id in common. {_advice(student, teacher)}")
    student_ids, teacher_ids = torch.tensor(pairs, dtype=torch.long).T
    return Alignment(student_ids, teacher_ids, *sizes)


def _size(tokens: Tokens, columns: int | None) -> int:
    needed = max(tokens.values(), default=-1) + 1
    if columns is not None and columns < needed:
        raise ValueError(
            f"logits must have at least {needed} columns for tokens up to id {needed - 1}, got"
            f" {columns}"
        )
    return columns or needed


def _check_strict(student: Tokens, teacher: Tokens, sizes: tuple[int, int], *, agree: int) -> None:
    same_tokens = agree == len(student) == len(teacher)
    if same_tokens and sizes[0] == sizes[1]:
        return
    if same_tokens:
        raise ValueError(
            f"all {agree} tokens of teacher and student agree, but their logits have {sizes[1]} and"
            f" {sizes[0]} columns; wrap the teacher in a kdlight.AlignedTeacher with"
            " policy='shared', which ignores columns without a token"
        )
    raise ValueError(
        f"the vocabularies of teacher and student differ: {agree} of {len(student)} ids of the"
        f" student have the same string among the {len(teacher)} of the teacher"
        f"{_first_difference(student, teacher)}. {_advice(student, teacher)}"
    )


def _first_difference(student: Tokens, teacher: Tokens) -> str:
    ours, theirs = ({id: token for token, id in each.items()} for each in (student, teacher))
    for id in sorted(ours.keys() | theirs.keys()):
        if ours.get(id) != theirs.get(id):
            return f"; id {id} is {ours.get(id)!r} in the student's, {theirs.get(id)!r} in its own"
    return ""


def _advice(student: Tokens, teacher: Tokens) -> str:
    common = len(student.keys() & teacher.keys())
    if common == len(student) == len(teacher):
        return "The strings are the same: policy='map' of kdlight.AlignedTeacher reorders them"
    return (
        f"{common} strings are in both. If one tokenizer is the other with added tokens, use"
        " policy='shared' of kdlight.AlignedTeacher; for two different tokenizers use an"
        " objective made for them, such as ULD or MultiLevelOT"
    )


def _pairs_by_string(student: Tokens, teacher: Tokens) -> list[tuple[int, int]]:
    different = student.keys() ^ teacher.keys()
    if different:
        raise ValueError(
            f"policy='map' requires the same strings in both vocabularies, but {len(different)} are"
            f" in one only, such as {sorted(different)[:3]}. {_advice(student, teacher)}"
        )
    return sorted((id, teacher[token]) for token, id in student.items())

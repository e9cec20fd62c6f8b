"""Which layer of a student learns from which layer of its teacher."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal

from torch import nn

from kdlight.checks import check_at_least
from kdlight.features.paths import modules_by_name

Rule = Callable[[int, int], Iterable[tuple[int, int]]]


class LayerMapping:
    r"""Pairs of layers, found by the numbers in their paths.

    Of :math:`n` layers of the student and :math:`N` of the teacher, ``count`` pairs are chosen:

    - ``"uniform"``: layers at the same relative depth; the :math:`i`-th of :math:`c` pairs is
      :math:`(\lceil i n / c \rceil, \lceil i N / c \rceil)`, counted from 1, so that the last pair
      is that of both last layers (TinyBERT, Jiao et al., 2020, for :math:`c = n`);
    - ``"last"``: the last layers of both in order, the last of one with the last of the other;
    - a function ``(n, N) -> [(i, j), ...]`` of positions from 0.

    Args:
        student: path with a ``*`` in the place of the number, such as ``"model.layers.*"``. As in
            `kdlight.features.find_module`, leading parts may be left out.
        teacher: the same for the teacher; None if it is that of the student.
        rule: ``"uniform"``, ``"last"``, or a function.
        count: number of pairs; None for as many as the smaller number of layers.

    Raises:
        ValueError: there is not exactly one ``*`` in a path, ``rule`` is unknown, or ``count`` is
            below 1 or is given together with a function.

    Example:
        >>> student, teacher = (nn.Sequential(*(nn.ReLU() for _ in range(n))) for n in (2, 6))
        >>> LayerMapping("*").pairs(student, teacher)
        {'0': '2', '1': '5'}
        >>> LayerMapping("*", rule="last").pairs(student, teacher)
        {'0': '4', '1': '5'}
    """

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        *,
        rule: Literal["uniform", "last"] | Rule = "uniform",
        count: int | None = None,
    ) -> None:
        for name, path in (("student", student), ("teacher", teacher)):
            if path is not None and path.count("*") != 1:
                raise ValueError(
                    f"{name} must have one '*' in the place of the number of a layer, such as"
                    f" 'model.layers.*', got {path!r}"
                )
        if not callable(rule) and rule not in ("uniform", "last"):
            raise ValueError(f"rule must be 'uniform', 'last' or a function, got {rule!r}")
        if count is not None:
            check_at_least("count", count, 1)
            if callable(rule):
                raise ValueError(
                    "count must be None if rule is a function, which chooses the pairs itself"
                )
        self.student, self.teacher = student, teacher
        self.rule: Literal["uniform", "last"] | Rule = rule
        self.count = count

    def __repr__(self) -> str:
        """Return the call that creates it."""
        teacher = "" if self.teacher is None else f", {self.teacher!r}"
        count = "" if self.count is None else f", count={self.count}"
        return f"LayerMapping({self.student!r}{teacher}, rule={self.rule!r}{count})"

    def pairs(self, student: nn.Module, teacher: nn.Module) -> dict[str, str]:
        """Return the path of the teacher for each path of the student.

        Raises:
            ValueError: a network has no such layers, fewer than ``count``, or the function returned
                a number that no layer has.
        """
        ours = _layers(student, self.student)
        theirs = _layers(teacher, self.teacher or self.student)
        return {ours[i]: theirs[j] for i, j in self._numbers(len(ours), len(theirs))}

    def _numbers(self, ours: int, theirs: int) -> list[tuple[int, int]]:
        if callable(self.rule):
            chosen = [(int(i), int(j)) for i, j in self.rule(ours, theirs)]
            wrong = [pair for pair in chosen if not (0 <= pair[0] < ours and 0 <= pair[1] < theirs)]
            if wrong or not chosen or len({i for i, _ in chosen}) < len(chosen):
                raise ValueError(
                    f"rule must return one pair or more of layers below ({ours}, {theirs}), each of"
                    f" the student's at most once, got {chosen}"
                )
            return chosen
        count = self.count or min(ours, theirs)
        if count > min(ours, theirs):
            raise ValueError(
                f"count is {count}, but there are {ours} layers of the student and {theirs} of the"
                " teacher"
            )
        if self.rule == "last":
            return [(ours - i, theirs - i) for i in range(count, 0, -1)]
        return [
            (-(-i * ours // count) - 1, -(-i * theirs // count) - 1) for i in range(1, count + 1)
        ]


def _layers(network: nn.Module, path: str) -> list[str]:
    """Return the paths that a pattern stands for, in the order of their numbers."""
    name, colon, rest = path.partition(":")
    before, after = map(re.escape, name.split("*"))
    pattern = re.compile(rf"(?:.*\.)?({before}(\d+){after})")
    found: dict[str, dict[int, str]] = {}
    for each in modules_by_name(network):
        match = pattern.fullmatch(each)
        if match:
            prefix = each[: match.start(1)]
            found.setdefault(prefix, {})[int(match[2])] = f"{each}{colon}{rest}"
    if "" in found:
        found = {"": found[""]}
    if len(found) != 1:
        several = ", ".join(repr(f"{prefix}{name}") for prefix in sorted(found)[:5])
        raise ValueError(
            f"{type(network).__name__} has no modules {path!r}; `kdlight doctor --paths` lists all"
            if not found
            else f"{path!r} fits several lists of layers of {type(network).__name__}: {several};"
            " write out one of them"
        )
    (numbers,) = found.values()
    return [numbers[number] for number in sorted(numbers)]

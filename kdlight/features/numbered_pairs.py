"""Pairs of modules that have the same number in both networks."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from kdlight.features.paths import FeaturePath, modules_by_name


def numbered_pairs(student: nn.Module, pairs: Mapping[str, str]) -> dict[str, str]:
    """Expand pairs of paths with a ``*`` to those of all numbers that the student has.

    Unlike those of a `LayerMapping`, layers that have such a module in only one of the networks
    leave no trace: number 3 is always paired with number 3.

    Args:
        student: the student.
        pairs: the path of the teacher for each path of the student. Both have one ``*``, in the
            place of a number, or none.

    Raises:
        TypeError: a path is no text.
        ValueError: only one path of a pair has one ``*``, or the student has no such module.

    Example:
        >>> network = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Tanh(), nn.Sequential(nn.ReLU()))
        >>> numbered_pairs(network, {"*.0": "layers.*.mlp", "1": "norm"})
        {'0.0': 'layers.0.mlp', '2.0': 'layers.2.mlp', '1': 'norm'}
    """
    found: dict[str, str] = {}
    for ours, theirs in pairs.items():
        for path in (ours, theirs):
            if not isinstance(path, str):
                raise TypeError(
                    f"pairs must map paths of modules to paths, got {ours!r}: {theirs!r}"
                )
        if (ours.count("*"), theirs.count("*")) == (0, 0):
            found[ours] = theirs
            continue
        if (ours.count("*"), theirs.count("*")) != (1, 1):
            raise ValueError(
                f"pairs must have one '*' on both sides, or none, got {ours!r}: {theirs!r}"
            )
        numbers = _numbers(student, FeaturePath.parse(ours).module)
        if not numbers:
            raise ValueError(
                f"{type(student).__name__} has no modules {ours!r}; `kdlight doctor --paths` lists"
                " all"
            )
        found |= {ours.replace("*", each): theirs.replace("*", each) for each in numbers}
    return found


def _numbers(network: nn.Module, path: str) -> list[str]:
    """Return the numbers for which a path, or the end of one, leads to a module, in order."""
    before, after = map(re.escape, path.split("*"))
    matches = (re.fullmatch(rf"(?:.*\.)?{before}(\d+){after}", n) for n in modules_by_name(network))
    return sorted({match[1] for match in matches if match}, key=int)

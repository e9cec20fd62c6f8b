"""Deviations from laws, and a table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isnan
from typing import Any, NamedTuple

from torch import Tensor


class Deviation(NamedTuple):
    """The difference of two values that should be equal, and the largest allowed one.

    Attributes:
        found: the difference.
        allowed: the largest difference that is allowed.
        what: what was compared.

    Example:
        >>> Deviation(found=3e-9, allowed=1e-9, what="value").excess
        3.0
    """

    found: float
    allowed: float
    what: str = ""

    @property
    def excess(self) -> float:
        """The difference relative to the allowed one: above 1 if too large; NaN is too large."""
        if isnan(self.found):
            return inf
        return self.found / self.allowed if self.allowed else inf if self.found else 0.0


def apart(actual: Tensor, expected: Tensor, what: str, *, allowed: float = 1e-9) -> Deviation:
    """Compute the largest difference, relative to 1 plus the largest expected value.

    Example:
        >>> import torch
        >>> apart(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0]), "value").found
        0.25
    """
    if actual.shape != expected.shape:
        shapes = f"shape {tuple(actual.shape)} instead of {tuple(expected.shape)}"
        return Deviation(inf, 0.0, f"{what}: {shapes}")
    actual, expected = actual.detach().double(), expected.detach().double()
    if not actual.numel():
        return Deviation(0.0, allowed, what)
    size = 1 + expected.abs().max()
    return Deviation(((actual - expected).abs().max() / size).item(), allowed, what)


def holds(condition: Any, what: str) -> Deviation:
    """Return a difference of 0 if the condition holds, and an infinite one if not."""
    return Deviation(0.0 if condition else inf, 0.0, what)


@dataclass(frozen=True)
class Finding:
    """The largest deviation from one law.

    Attributes:
        law: the law, in words.
        deviation: the deviation from it.
        allowed: the largest deviation that is allowed.
        note: what was compared, or the error that was raised.

    Example:
        >>> Finding("zero at a match", 1e-12, 1e-7, "value").holds
        True
    """

    law: str
    deviation: float
    allowed: float
    note: str

    @property
    def excess(self) -> float:
        """The deviation relative to the allowed one: above 1 the law is broken."""
        return Deviation(self.deviation, self.allowed).excess

    @property
    def holds(self) -> bool:
        """Whether the deviation is small enough."""
        return self.excess <= 1

    def __str__(self) -> str:
        mark = "ok    " if self.holds else "BROKEN"
        numbers = f"{self.deviation:9.1e} {self.allowed:8.0e}"
        return f"{mark}  {numbers}  {self.law}" + ("" if self.holds else f" ({self.note})")


class Report(tuple[Finding, ...]):
    """The findings of all laws; printed, a table.

    Example:
        >>> Report([Finding("never negative", 0.5, 1e-9, "value")])
                deviation  allowed  law
        BROKEN    5.0e-01    1e-09  never negative (value)
    """

    __slots__ = ()

    @property
    def broken(self) -> list[Finding]:
        """The laws that do not hold."""
        return [finding for finding in self if not finding.holds]

    def __str__(self) -> str:
        return "\n".join(["        deviation  allowed  law", *map(str, self)])

    __repr__ = __str__


Law = Callable[..., Iterator[Deviation]]


def worst(deviations: Iterable[Deviation]) -> Deviation:
    """Return the deviation that is largest relative to the allowed one.

    Example:
        >>> worst([Deviation(1e-12, 1e-9, "value"), Deviation(2e-9, 1e-9, "gradient")]).what
        'gradient'
    """
    return max(deviations, key=lambda each: each.excess)


def find(laws: Mapping[str, Law], *subject: Any) -> Report:
    """Evaluate every law on ``subject``; a law that raises an error counts as broken."""
    return Report(_find(name.replace("_", " "), law, subject) for name, law in laws.items())


def _find(name: str, law: Law, subject: tuple[Any, ...]) -> Finding:
    try:
        return Finding(name, *worst(law(*subject)))
    except Exception as error:  # the user's code may raise any exception
        return Finding(name, inf, 0.0, f"{type(error).__name__}: {error}")


def demand(report: Report, owner: str, except_for: Mapping[str, str]) -> Report:
    """Return the report; raise an error unless exactly the laws in ``except_for`` are broken.

    Args:
        report: the findings.
        owner: name of what was checked, for error messages.
        except_for: laws that cannot hold, each with the reason.

    Raises:
        AssertionError: other laws are broken, or laws in ``except_for`` hold.
        ValueError: a name in ``except_for`` is not that of a law.
    """
    excepted = {name.replace("_", " ") for name in except_for}
    unknown = excepted - {finding.law for finding in report}
    if unknown:
        raise ValueError(
            f"except_for has unknown laws: {', '.join(sorted(unknown))}; the laws are:"
            f" {', '.join(finding.law for finding in report)}"
        )
    broken = [finding for finding in report.broken if finding.law not in excepted]
    if broken:
        rows = "\n".join(map(str, Report(broken)))
        raise AssertionError(f"{owner} breaks {len(broken)} of {len(report)} laws\n{rows}")
    satisfied = sorted(excepted - {finding.law for finding in report.broken})
    if satisfied:
        raise AssertionError(
            f"{owner} satisfies laws that except_for lists as broken; remove them from it:"
            f" {', '.join(satisfied)}"
        )
    return report

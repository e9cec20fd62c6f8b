"""How far something is from what a law demands, and the table of all laws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, isnan
from typing import Any, NamedTuple

from torch import Tensor


class Deviation(NamedTuple):
    """How far apart two things are that should be one, how far they may be, and what they are.

    Example:
        >>> Deviation(found=3e-9, allowed=1e-9, what="value").excess
        3.0
    """

    found: float
    allowed: float
    what: str = ""

    @property
    def excess(self) -> float:
        """Above 1 where it is too far, whatever the scale; NaN is too far."""
        if isnan(self.found):
            return inf
        return self.found / self.allowed if self.allowed else inf if self.found else 0.0


def apart(actual: Tensor, expected: Tensor, what: str, *, allowed: float = 1e-9) -> Deviation:
    """Largest difference, beside 1 plus the size of what was expected.

    Example:
        >>> import torch
        >>> apart(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 3.0]), "value").found
        0.25
    """
    if actual.shape != expected.shape:
        return Deviation(inf, 0.0, f"{what}: {tuple(actual.shape)} is not {tuple(expected.shape)}")
    actual, expected = actual.detach().double(), expected.detach().double()
    if not actual.numel():
        return Deviation(0.0, allowed, what)
    size = 1 + expected.abs().max()
    return Deviation(((actual - expected).abs().max() / size).item(), allowed, what)


def holds(condition: Any, what: str) -> Deviation:
    """No difference where the condition holds, and an infinite one where not."""
    return Deviation(0.0 if condition else inf, 0.0, what)


@dataclass(frozen=True)
class Finding:
    """One law, and the worst of what was found.

    Attributes:
        law: the law, in words.
        deviation: how far from it.
        allowed: how far it may be.
        note: what it was measured on; an error, if there was one.

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
        """The deviation beside what is allowed: above 1, the law is broken."""
        return Deviation(self.deviation, self.allowed).excess

    @property
    def holds(self) -> bool:
        """Whether it is near enough."""
        return self.excess <= 1

    def __str__(self) -> str:
        mark = "ok    " if self.holds else "BROKEN"
        numbers = f"{self.deviation:9.1e} {self.allowed:8.0e}"
        return f"{mark}  {numbers}  {self.law}" + ("" if self.holds else f" ({self.note})")


class Report(tuple[Finding, ...]):
    """What was found of every law; printed, a table.

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
    """The one that is furthest from what is allowed.

    Example:
        >>> worst([Deviation(1e-12, 1e-9, "value"), Deviation(2e-9, 1e-9, "gradient")]).what
        'gradient'
    """
    return max(deviations, key=lambda each: each.excess)


def find(laws: Mapping[str, Law], *subject: Any) -> Report:
    """Ask every law of ``subject``; one that cannot be asked is broken, with the error."""
    return Report(_find(name.replace("_", " "), law, subject) for name, law in laws.items())


def _find(name: str, law: Law, subject: tuple[Any, ...]) -> Finding:
    try:
        return Finding(name, *worst(law(*subject)))
    except Exception as error:  # somebody else's code, in which anything may go wrong
        return Finding(name, inf, 0.0, f"{type(error).__name__}: {error}")


def demand(report: Report, owner: str, except_for: Mapping[str, str]) -> Report:
    """The report itself; an AssertionError where a law is broken that is no exception.

    Raises:
        AssertionError: with the broken laws, or with exceptions that hold.
        ValueError: an exception that is no law.
    """
    excepted = {name.replace("_", " ") for name in except_for}
    unknown = excepted - {finding.law for finding in report}
    if unknown:
        raise ValueError(
            f"except_for names no law: {', '.join(sorted(unknown))}; the laws are:"
            f" {', '.join(finding.law for finding in report)}"
        )
    broken = [finding for finding in report.broken if finding.law not in excepted]
    if broken:
        rows = "\n".join(map(str, Report(broken)))
        raise AssertionError(f"{owner} breaks {len(broken)} of {len(report)} laws\n{rows}")
    kept = sorted(excepted - {finding.law for finding in report.broken})
    if kept:
        raise AssertionError(f"{owner} keeps what except_for says it breaks: {', '.join(kept)}")
    return report

"""What was found out, for people to read."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlight.doctor.findings import Finding
from kdlight.doctor.sizes import Row, size, total


@dataclass
class Report:
    """What a run will hold, and what was found.

    Attributes:
        facts: what the run is made of: a name and a description each.
        rows: what one rank holds.
        memory: bytes that one rank can have; None where that is not known.
        findings: what stands in its way, and what one should know.

    Example:
        >>> print(Report(facts=[("student", "Linear, 15 parameters")]))
        student    Linear, 15 parameters
        <BLANKLINE>
        nothing stands in the way of this run
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    memory: int | None = None
    findings: list[Finding] = field(default_factory=list)

    def add(self, *findings: Finding) -> None:
        """Add findings, each once: several checks may see one thing."""
        self.findings += [each for each in findings if each not in self.findings]

    @property
    def errors(self) -> list[str]:
        """Why the run cannot work; empty where nothing was found."""
        return [finding.text for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[str]:
        """What one should know."""
        return [finding.text for finding in self.findings if finding.level == "warning"]

    def __str__(self) -> str:
        lines = [f"{name:<11}{description}" for name, description in self.facts]
        if self.rows:
            lines += ["", "each rank holds", *map(_line, self.rows), self._sum()]
        if self.findings:
            lines += ["", *(f"{finding.level}: {finding.text}" for finding in self.findings)]
        verdict = "this run cannot work" if self.errors else "nothing stands in the way of this run"
        return "\n".join([*lines, "", verdict])

    def _sum(self) -> str:
        unknown = [row.name for row in self.rows if row.bytes is None and not row.alternative]
        there = "" if self.memory is None else f"of {size(self.memory)} that there are"
        less = f" without {', '.join(unknown)}" if unknown else ""
        return _line(Row("sum", total(self.rows), there + less))


def _line(row: Row) -> str:
    amount = "?" if row.bytes is None else size(row.bytes)
    amount = f"({amount})" if row.alternative else f"{amount} "
    return f"  {row.name:<31}{amount:>13}  {row.note}".rstrip()

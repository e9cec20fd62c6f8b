"""The report of the doctor, as text."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdlight.doctor.byte_sizes import format_bytes
from kdlight.doctor.feature_shapes import FeatureRow
from kdlight.doctor.findings import Finding
from kdlight.doctor.memory_rows import MemoryRow, total_bytes


@dataclass
class Report:
    """A description of a run, the memory of each rank, and what the checks found.

    Attributes:
        facts: what the run consists of: a name and a description each.
        rows: the memory of one rank.
        memory: bytes that are available to one rank; None if unknown.
        findings: errors and warnings.
        features: the paths of the features of each network, if they were asked for.

    Example:
        >>> print(Report(facts=[("student", "Linear, 15 parameters")]))
        student    Linear, 15 parameters
        <BLANKLINE>
        this run can start
    """

    facts: list[tuple[str, str]] = field(default_factory=list)
    rows: list[MemoryRow] = field(default_factory=list)
    memory: int | None = None
    findings: list[Finding] = field(default_factory=list)
    features: dict[str, list[FeatureRow]] = field(default_factory=dict)

    def add(self, *findings: Finding) -> None:
        """Add findings, each once: several checks may find the same."""
        self.findings += [each for each in findings if each not in self.findings]

    @property
    def errors(self) -> list[str]:
        """The reasons why the run cannot work; empty if none was found."""
        return [finding.text for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[str]:
        """What may not be intended."""
        return [finding.text for finding in self.findings if finding.level == "warning"]

    def __str__(self) -> str:
        lines = [f"{name:<11}{description}" for name, description in self.facts]
        if self.rows:
            lines += ["", "each rank holds", *map(_line, self.rows), self._sum()]
        for network, rows in self.features.items():
            lines += ["", f"features of the {network}", *map(str, rows)]
        if self.findings:
            lines += ["", *(f"{finding.level}: {finding.text}" for finding in self.findings)]
        verdict = "this run cannot work" if self.errors else "this run can start"
        return "\n".join([*lines, "", verdict])

    def _sum(self) -> str:
        unknown = [row.name for row in self.rows if row.bytes is None and not row.alternative]
        notes = [] if self.memory is None else [f"of {format_bytes(self.memory)} available"]
        notes += [f"without {', '.join(unknown)}"] if unknown else []
        return _line(MemoryRow("sum", total_bytes(self.rows), " ".join(notes)))


def _line(row: MemoryRow) -> str:
    amount = "?" if row.bytes is None else format_bytes(row.bytes)
    amount = f"({amount})" if row.alternative else f"{amount} "
    return f"  {row.name:<31}{amount:>13}  {row.note}".rstrip()

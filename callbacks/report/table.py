"""The table of a report."""

from __future__ import annotations

from collections.abc import Collection, Sequence

METRICS = {
    "forward_kl": ("KL(teacher || student)", "{:.4f}"),
    "reverse_kl": ("KL(student || teacher)", "{:.4f}"),
    "perplexity": ("perplexity", "{:.2f}"),
    "accuracy": ("accuracy", "{:.2%}"),
    "top1_agreement": ("top-1 agreement", "{:.2%}"),
    "ece": ("calibration error (ECE)", "{:.4f}"),
    "parameters": ("parameters", "{:,.0f}"),
    "per_second": ("forward pass, {unit}s/s", "{:,.0f}"),
}
"""Title and number format of each row."""


def render(
    columns: dict[str, dict[str, float]], unit: str = "token", *, temperature: float = 1.0
) -> str:
    """Return a Markdown table of metrics with one column per network.

    A metric that no network has gets no row.

    Args:
        columns: the metrics of each network.
        unit: what a position is, for the row of the speed.
        temperature: the temperature of the divergences, named in the heading unless it is 1.

    Example:
        >>> print(render({"student": {"perplexity": 12.0}, "teacher": {"perplexity": 9.5}}))
        | held out   | student | teacher |
        | :--------- | ------: | ------: |
        | perplexity |   12.00 |    9.50 |
    """
    heading = "held out" if temperature == 1 else f"held out (KL at temperature {temperature:g})"
    cells = [[heading, *columns]]
    for key, (title, number) in METRICS.items():
        if any(key in values for values in columns.values()):
            row = [number.format(v[key]) if key in v else "" for v in columns.values()]
            cells.append([title.format(unit=unit), *row])
    return aligned_table(cells, left=(0,))


def aligned_table(rows: Sequence[Sequence[str]], *, left: Collection[int]) -> str:
    """Return a Markdown table that is aligned as plain text, too.

    Args:
        rows: the cells of each row, the first of which is the heading.
        left: columns whose cells are aligned to the left; the others are numbers.

    Example:
        >>> print(aligned_table([["layers", "note"], ["12", "best"]], left=(1,)))
        | layers | note |
        | -----: | :--- |
        |     12 | best |
    """
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = [
        ":" + "-" * (width - 1) if column in left else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    lines = []
    for row in (rows[0], rule, *rows[1:]):
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

"""The table of a report."""

from __future__ import annotations

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
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [_line(row, widths) for row in cells]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join([lines[0], _line(rule, widths), *lines[1:]])


def _line(row: list[str], widths: list[int]) -> str:
    _, *values = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
    return "| " + " | ".join([row[0].ljust(widths[0]), *values]) + " |"

"""The tables and the picture of the study in bdkd.py."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

Figures = dict[str, float]

TITLES = {
    "accuracy": ("accuracy, %", 100.0, 1),
    "ece": ("ECE, %", 100.0, 1),
    "surer": ("surer by, %", 100.0, 1),
    "true_ece": ("ECE, true labels, %", 100.0, 1),
    "scaled_ece": ("ECE scaled, %", 100.0, 1),
    "nll": ("NLL", 1.0, 3),
}


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard error."""
    return mean(values), stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def table(results: dict[str, list[Figures]]) -> str:
    """A row a method; each figure with its standard error over seeds."""
    lines = ["| student learns by | " + " | ".join(title for title, _, _ in TITLES.values()) + " |"]
    lines.append("| :-- |" + " --: |" * len(TITLES))
    for method, runs in results.items():
        cells = []
        for name, (_, scale, digits) in TITLES.items():
            values = [scale * figures[name] for figures in runs if name in figures]
            shown = "{:.{d}f} ± {:.{d}f}".format(*spread(values), d=digits) if values else ""
            cells.append(shown)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def paired(results: dict[str, list[Figures]], other: str, name: str) -> str:
    """The difference of two methods, seed by seed: what all share cancels out."""
    one = "BD-KD, 3 and 1"
    pairs = zip(results[one], results[other], strict=True)
    difference, error = spread([100 * (a[name] - b[name]) for a, b in pairs])
    return f"- {one}, minus {other}: {TITLES[name][0]} {difference:+.2f} ± {error:.2f}"


def report(width: int, results: dict[str, list[Figures]]) -> str:
    """The table of one student, and what is to be read off it."""
    others = ("BD-KD reversed, 3 and 1", "2 forward + 2 reverse", "forward KL")
    lines = [f"A student of {width} units:", "", table(results), ""]
    lines += [paired(results, other, name) for name in ("ece", "accuracy") for other in others]
    runs = [figures for each in results.values() for figures in each]
    of_teacher = [
        100 * mean(figures[name] for figures in runs if name in figures)
        for name in ("teacher_accuracy", "teacher_ece")
    ]
    lines += ["", "Its teachers: accuracy {:.1f} %, ECE {:.1f} %.".format(*of_teacher), ""]
    return "\n".join(lines)


def draw(results: dict[int, dict[str, list[Figures]]], path: Path) -> None:
    """Accuracy and calibration error of each method, with standard errors; a panel a student."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (width, by_method) in enumerate(results.items(), start=1):
        axes = figure.add_subplot(1, len(results), column)
        for i, (method, runs) in enumerate(by_method.items()):
            (x, dx), (y, dy) = (
                spread([100 * figures[name] for figures in runs]) for name in ("ece", "accuracy")
            )
            marker = "osD^v<>PX"[i % 9]
            axes.errorbar(x, y, xerr=dx, yerr=dy, marker=marker, ls="", label=method, capsize=2)
        axes.set(title=f"student of {width} units", xlabel="ECE, % (left is better)")
        axes.set_ylabel("accuracy, % (up is better)")
        axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path)

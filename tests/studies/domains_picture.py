"""The picture: the weights of each domain over the draws of a run, a line for each seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(results: dict[str, Any], names: list[str], seeds: int, path: Path) -> None:
    """Draw the weights that DDK set, beside those of the other ways."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(1, 1, 1)
    sizes = results["proportional|0"]["plan"][0][1]
    for number, name in enumerate(names):
        color = f"C{number}"
        for seed in range(seeds):
            plan = results[f"DDK|{seed}"]["plan"]
            draws, weights = [row[0] for row in plan], [row[1][number] for row in plan]
            label = name if not seed else None
            axes.step(draws, weights, where="post", color=color, alpha=0.8, label=label)
        axes.axhline(sizes[number], color=color, linestyle=":", linewidth=1)
    axes.axhline(1 / len(names), color="gray", linestyle="--", linewidth=1)
    axes.set_xlabel("blocks drawn (dotted: in proportion to size, dashed: uniform)")
    axes.set_ylabel("weight")
    axes.set_ylim(0, 1)
    axes.legend(fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})

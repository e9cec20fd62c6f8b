"""The picture: a panel a figure, a line a method, with standard errors."""

from __future__ import annotations

from pathlib import Path

from tests.studies.compare.methods import LEARNED, METHODS
from tests.studies.compare.results import Figures, spread

PANELS = {
    "forward_kl": "forward KL\nnats, left is better",
    "reverse_kl": "reverse KL\nnats, left is better",
    "top1_agreement": "top-1 agreement\nright is better",
    "own_text_agreement": "agreement on own text\nright is better",
    "ece": "calibration error\nleft is better",
    "tokens_per_second": "tokens a second\nright is better",
}


def draw(results: dict[str, list[Figures]], path: Path) -> None:
    """Draw what was measured, the best forward KL on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in LEARNED if name in results and spread(results[name], "forward_kl")]
    names.sort(key=lambda name: -_mean(results[name], "forward_kl"))
    panels = [each for each in PANELS if any(spread(results[name], each) for name in names)]
    figure = Figure(
        figsize=(2.1 * len(panels) + 1.4, 0.27 * len(names) + 1.2), layout="constrained"
    )
    FigureCanvasAgg(figure)
    for column, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), column)
        for row, name in enumerate(names):
            found = spread(results[name], panel)
            if found is not None:
                axes.errorbar(
                    found[0], row, xerr=found[1], marker="o", ms=4, capsize=2, color=f"C{row % 10}"
                )
        shown = [METHODS[name].title for name in names] if column == 1 else [""] * len(names)
        axes.set_yticks(range(len(names)), shown)
        axes.set_title(PANELS[panel], fontsize="small")
        axes.tick_params(labelsize="small")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _mean(runs: list[Figures], figure: str) -> float:
    found = spread(runs, figure)
    assert found is not None
    return found[0]

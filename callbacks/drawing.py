"""The picture of a run, drawn by matplotlib."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

History = dict[str, list[tuple[int, float]]]

PANELS = {
    "loss": ("training loss", "loss"),
    "t": ("TAID: weight of the teacher in the target", "t"),
    "forward_kl": ("held-out KL(teacher || student)", "nats per position"),
}


def check_drawing() -> None:
    """Raise a ModuleNotFoundError that says how to get matplotlib, if it is not there."""
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "the picture of the report is drawn by matplotlib, which is not installed; run"
            " `pip install kdlight[report]`, or leave the Report callback out"
        )


def draw_run(history: History, path: Path) -> None:
    """Draw what a run noted, a panel a curve, and save it to ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {name: texts for name, texts in PANELS.items() if history.get(name)}
    figure = Figure(figsize=(4.2 * max(len(panels), 1), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (name, (title, unit)) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), column)
        steps, values = zip(*history[name], strict=True)
        axes.plot(
            steps, values, color=f"C{column - 1}", marker="o" if len(steps) < 30 else "", ms=4
        )
        axes.set(title=title, xlabel="optimizer step", ylabel=unit)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)

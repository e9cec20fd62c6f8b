"""Draw the pictures of a report with Matplotlib."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from kdlight.metrics.calibration import Curve

History = dict[str, list[tuple[int, float]]]

PANELS = {
    "loss": ("training loss", "loss"),
    "t": ("TAID: weight of the teacher in the target", "t"),
    "forward_kl": ("held-out KL(teacher || student)", "nats per position"),
}


def check_matplotlib() -> None:
    """Raise an error if Matplotlib is not installed.

    Raises:
        ModuleNotFoundError: Matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "DistillationReport needs Matplotlib, which is not installed; run"
            " `pip install kdlight[report]`, or remove the callback"
        )


def draw_run(history: History, path: Path) -> None:
    """Draw the curves of a run, one panel each, and save the picture to ``path``."""
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


def draw_reliability(curves: dict[str, Curve], path: Path) -> None:
    """Draw accuracy over confidence, one panel per network, and save the picture to ``path``.

    The curve of a calibrated network is the diagonal. Below it the network is overconfident. The
    grey bars are the share of the predictions in each bin.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(curves), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (name, curve) in enumerate(curves.items(), start=1):
        axes = figure.add_subplot(1, len(curves), column)
        axes.bar(curve["confidence"], curve["share"], width=0.04, color="0.85", label="share")
        axes.plot([0, 1], [0, 1], color="0.5", ls="--", lw=1, label="calibrated")
        axes.plot(curve["confidence"], curve["accuracy"], "o-", ms=4, color="C0", label="accuracy")
        error = sum(
            share * abs(accuracy - confidence)
            for share, accuracy, confidence in zip(
                curve["share"], curve["accuracy"], curve["confidence"], strict=True
            )
        )
        axes.set(
            title=f"{name}: ECE {error:.4f}", xlabel="confidence", ylabel="accuracy",
            xlim=(0, 1.03), ylim=(0, 1.03),
        )  # fmt: skip
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", fontsize="small")
    figure.savefig(path, dpi=150)

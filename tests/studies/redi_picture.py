"""The picture of the study in redi.py: who stays calm, and who answers right in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TICKS = (-0.5, -1, -2, -4, -8)
INK, GRID = "#444444", "#dddddd"
ALPHAS = ("#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08306b")
OTHERS = ("#2ca02c", "#ff7f0e", "#d62728")


def draw(
    path: Path,
    results: Mapping[tuple[str, float], Mapping[str, Any]],
    before: Mapping[str, float],
    rates: Sequence[float],
) -> None:
    """The log-probability of right answers along each run, and the accuracy that came of it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(name for name, _ in results))
    colours = dict(zip(names, (*ALPHAS, *OTHERS), strict=True))
    figure, axes = plt.subplots(1, len(rates) + 1, figsize=(13, 3.8), layout="constrained")
    lowest = min(min(found["curve"]) for found in results.values())
    for axis, rate in zip(axes, rates, strict=False):
        for name in names:
            axis.plot(smooth(results[name, rate]["curve"]), color=colours[name], lw=1.5)
        axis.set(title=f"learning rate {rate:g}", xlabel="step of stage 2")
        axis.set_yscale("symlog", linthresh=0.25)
        axis.set_ylim(lowest * 1.2, -0.4)
        axis.set_yticks(TICKS, labels=[f"{tick:g}" for tick in TICKS])
        axis.minorticks_off()
    axes[0].set_ylabel("log-probability of right answers\n(training, nats a token)")
    for name in names:
        accuracies = [results[name, rate]["accuracy"] for rate in rates]
        axes[-1].plot(rates, accuracies, "o-", color=colours[name], label=name, lw=1.5)
    axes[-1].axhline(before["accuracy"], color=INK, ls=":", label="stage 1 alone")
    axes[-1].set(
        xscale="log", ylim=(0, None), xlabel="learning rate", title="accuracy, unseen prompts"
    )
    for axis in axes:
        axis.grid(color=GRID, lw=0.5)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    mpl.rcParams["svg.hashsalt"] = "kdlight"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def smooth(values: Sequence[float], decay: float = 0.8) -> list[float]:
    """A moving average."""
    found: list[float] = []
    for value in values:
        found.append(decay * found[-1] + (1 - decay) * value if found else value)
    return found

"""Labels of a data set where an objective reads them as tokens of the student."""

from __future__ import annotations

from typing import Any

from kdlight.objectives import SampledReverseKL


def check_labels_are_drawn(module: Any) -> None:
    """Raise an error where no callback replaces the labels that an objective reads as drawn.

    A module with a training step of its own may draw them there.

    Args:
        module: the module of a run, with its trainer.

    Raises:
        ValueError: The objective reads tokens of the student, and would get those of the data.
    """
    own_step = not type(module).training_step.__module__.startswith("kdlight.")
    reads = any(isinstance(each, SampledReverseKL) for each in module.modules())
    replaced = any(getattr(each, "changes_batches", False) for each in module.trainer.callbacks)
    if reads and not own_step and not replaced:
        raise ValueError(
            "SampledReverseKL reads labels as tokens that the student has drawn, but no callback"
            " replaces those of the data, with which its value is no reverse KL; add"
            " kdlight.callbacks.OnPolicy with fraction=1 (a callback of your own says"
            " changes_batches = True), or use kdlight.objectives.ReverseKL"
        )

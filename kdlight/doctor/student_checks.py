"""Check that the student has parameters to train, and dropout where it is configured."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn

from kdlight.doctor.findings import Finding, error, warning


def check_student(student: nn.Module) -> Iterator[Finding]:
    """Yield findings about frozen parameters, and about parts in evaluation mode."""
    parameters = list(student.parameters())
    if not any(p.requires_grad for p in parameters):
        yield error(
            f"the student ({type(student).__name__}) has no trainable parameters: none of its"
            f" {len(parameters)} parameters requires a gradient; call requires_grad_(True) on those"
            " to be trained"
        )
    if not student.training:
        return  # on_fit_start sets train mode for the whole student
    in_eval = {name: part for name, part in student.named_modules() if not part.training}
    with_dropout = [name for name, part in in_eval.items() if _has_dropout(part)]
    if with_dropout:
        yield error(
            "parts of the student are in evaluation mode, so their dropout is off:"
            f" {_shortened(with_dropout)}. Hugging Face creates models in evaluation mode: call"
            " .train() where the student is created, or set the dropout to 0"
        )
    elif in_eval:
        yield warning(
            "parts of the student are in evaluation mode, and stay so in training:"
            f" {_shortened(in_eval)}"
        )


def _has_dropout(module: nn.Module) -> bool:
    """Return whether train mode has an effect: dropout layers, and attributes of Hugging Face."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return any(
        "drop" in name and isinstance(value, float) and value > 0
        for name, value in vars(module).items()
    )


def _shortened(names: Collection[str]) -> str:
    listed = [name or "the student itself" for name in names]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more

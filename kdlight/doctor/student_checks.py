"""Is there something to learn, and does the student learn as it is meant to?"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from kdlight.doctor.findings import Finding, error, warning


def check_student(student: nn.Module) -> Iterator[Finding]:
    """Findings about what is frozen, and about what is in evaluation mode."""
    parameters = list(student.parameters())
    if not any(p.requires_grad for p in parameters):
        yield error(
            f"nothing of the student ({type(student).__name__}) learns: none of its"
            f" {len(parameters)} parameters requires a gradient; call requires_grad_(True) on what"
            " is to learn"
        )
    if not student.training:
        return  # on_fit_start puts the whole of it into training mode
    asleep = {name: part for name, part in student.named_modules() if not part.training}
    silent = [name for name, part in asleep.items() if _drops(part)]
    if silent:
        yield error(
            "parts of the student are in evaluation mode, so their dropout is off:"
            f" {_some(silent)}. Hugging Face hands models out like that: call .train() where the"
            " student is made, or set the dropout to 0 if it is to be off"
        )
    elif asleep:
        yield warning(
            f"parts of the student are in evaluation mode, and stay so in training: {_some(asleep)}"
        )


def _drops(module: nn.Module) -> bool:
    """Whether training mode would drop something: layers of dropout, and Hugging Face's numbers."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return any(
        "drop" in name and isinstance(value, float) and value > 0
        for name, value in vars(module).items()
    )


def _some(names: object) -> str:
    listed = [name or "the whole" for name in names]  # type: ignore[attr-defined]
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more

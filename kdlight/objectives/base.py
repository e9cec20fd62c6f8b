"""The base class of objectives: from `LossInputs` to a `Loss`."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from kdlight.objectives.inputs import LossInputs
from kdlight.reduce import Loss, RowProblems

MISSING = {
    "teacher": "a teacher, but the inputs have none",
    "labels": "labels, but the inputs have none",
    "rejected": (
        "`rejected`, one boolean per sequence, but the inputs have none; a TracesDataModule with"
        " kind='pairs' provides it"
    ),
    "span_ids": (
        "`span_ids`, the spans that positions belong to, but the inputs have none; set spans=... of"
        " the data module, or add 'span_ids', aligned like labels, to the batch"
    ),
}


class Objective(nn.Module):
    """A distillation objective: hyper-parameters, perhaps state, and ``forward(inputs) -> Loss``.

    ``forward`` never sees a trainer and never changes a buffer. Numbers that change over time
    (``t``, a temperature, a weight) are plain attributes, which callbacks change.

    Attributes:
        needs: fields of `LossInputs` that must be present, such as ``{"teacher", "labels"}``.
        is_per_token: whether the objective is the sum of its ``per_token_loss`` and nothing else,
            so that `Weighted` may evaluate it together with others.
        uses_probabilities: whether logits become probabilities, which needs two of them at least.
            False for losses of the outputs themselves, such as those of a regression.
        has_features: whether paths of features may lead into networks of the objective: they are no
            part of the student.
        student_paths: paths of features of the student that the objective reads beside the logits,
            without comparing them with the teacher's.
        unit: what ``Loss.count`` counts. `Weighted` converts terms with another unit than
            ``"token"``.

    Example:
        >>> import torch
        >>> class Distance(Objective):
        ...     def forward(self, inputs):
        ...         difference = inputs.student.logits() - inputs.teacher.logits()
        ...         count = torch.tensor(len(inputs.valid_positions()))
        ...         return Loss(difference.square().sum(), count)
        >>> Distance()(LossInputs(torch.zeros(2, 5), torch.ones(2, 5))).mean()
        tensor(5.)
    """

    needs: frozenset[str] = frozenset({"teacher"})
    is_per_token: bool = False
    uses_probabilities: bool = True
    has_features: bool = False
    student_paths: tuple[str, ...] = ()
    unit: str = "token"

    def forward(self, inputs: LossInputs) -> Loss:
        """Evaluate the objective."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(inputs)")

    def row_problems(self, inputs: LossInputs) -> RowProblems | None:
        """Describe the loss as a sum over groups of rows, or return None if it is no such sum.

        `Weighted` evaluates such a sum on the logits that it computes for per-token terms. The
        default is None. `forward` must compute the same.
        """
        return None

    def check(self, inputs: LossInputs) -> None:
        """Raise a ValueError that names what is missing in ``inputs``, or does not fit."""
        for need in sorted(self.needs):
            if getattr(inputs, need) is None:
                missing = MISSING.get(need, f"`{need}`, but the inputs have none")
                raise ValueError(f"{type(self).__name__} needs {missing}")
        for side in ("student", "teacher") if self.uses_probabilities else ():
            source = getattr(inputs, side) if side == "student" or side in self.needs else None
            if source is not None and source.shape[-1] == 1:
                raise ValueError(
                    f"the {side} has one logit, {tuple(source.shape)}, whose softmax is always 1,"
                    f" but {type(self).__name__} compares probabilities: one logit is that of a"
                    " sigmoid, wrap the network in kdlight.MultiLabel; for a regression use"
                    " kdlight.objectives.MeanSquaredError"
                )

    def bind(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Create networks of the objective whose sizes depend on ``student`` and ``teacher``.

        A module calls this once, before optimizers are created and weights are loaded. An objective
        that contains others passes the call on; the default does so for all submodules.

        Args:
            student: the network that is trained.
            teacher: the network of a live teacher, or None.
        """
        for objective in _nested_objectives(self):
            objective.bind(student, teacher)


def _nested_objectives(module: nn.Module) -> Iterator[Objective]:
    for child in module.children():
        if isinstance(child, Objective):
            yield child
        else:
            yield from _nested_objectives(child)


def check_vocabularies(student: int, teacher: int) -> None:
    """Raise a ValueError where two vocabularies cannot be compared entry by entry.

    Example:
        >>> check_vocabularies(5, 7)
        Traceback (most recent call last):
        ValueError: teacher and student vocabularies differ: 7 and 5 entries; a token objective ...
    """
    if student != teacher:
        raise ValueError(
            f"teacher and student vocabularies differ: {teacher} and {student} entries; a token"
            " objective compares them entry by entry, so both must come from the same tokenizer"
            f" (if the first {min(student, teacher)} ids are the same tokens in both, crop both"
            f" with kdlight.FrozenTeacher(network, vocab_size={min(student, teacher)}))"
        )

"""Check that the teacher of a fit can be calibrated, and that its objective follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from kdlight.callbacks.module_check import check_module
from kdlight.objectives import Objective, RoutedKD
from kdlight.objectives.features.feature_objective import FeatureObjective
from kdlight.sources import LogitsSource
from kdlight.teachers import Teacher, TeacherEnsemble

NAME = "CalibrateTeacherFirst"


def check_calibration(trainer: Trainer, pl_module: LightningModule) -> None:
    """Raise a ValueError for a fit whose teacher cannot be calibrated, before any work is done.

    Args:
        trainer: the trainer, whose data are known but not loaded.
        pl_module: the module of the fit.
    """
    module = check_module(NAME, pl_module)
    if module.frozen_teacher is None:
        raise ValueError(
            f"{NAME} calibrates the teacher, but the module, a {type(module).__name__}, has none"
            " that stays as it is; give it a teacher, or remove the callback"
        )
    check_objective(module.objective)
    check_teacher(module.frozen_teacher)
    if not trainer.enable_validation:
        raise ValueError(
            f"{NAME} calibrates the teacher on validation data, but this fit has none, or does not"
            f" use them (limit_val_batches is {trainer.limit_val_batches}); give it a"
            " val_dataloader, and a module of your own a validation_step, or remove the callback"
        )


_READS_LABELS = (
    f"{NAME} compares the teacher with the labels, but the weights of its average depend on the"
    " labels (weigh_by='confidence' of a TeacherEnsemble), so that it looks better than it is; use"
    " weigh_by='entropy', or remove the callback"
)


def check_teacher(teacher: Teacher) -> None:
    """Raise a ValueError for a teacher that knows the labels.

    Example:
        >>> from torch import nn
        >>> from kdlight import TeacherEnsemble
        >>> check_teacher(TeacherEnsemble({"a": nn.Linear(2, 3)}, weigh_by="entropy"))
    """
    if isinstance(teacher, TeacherEnsemble) and teacher.weigh_by == "confidence":
        raise ValueError(_READS_LABELS)
    for each in teacher.teachers():
        check_teacher(each)


def check_objective(objective: Objective) -> None:
    """Raise a ValueError for an objective that does not learn the teacher's confidence.

    Example:
        >>> from kdlight.objectives import TopKForwardKL
        >>> check_objective(TopKForwardKL(temperature=2.0))
        Traceback (most recent call last):
        ValueError: CalibrateTeacherFirst sets the temperature of the teacher, but TopKForwardKL ...
    """
    if "teacher" not in objective.needs:
        raise ValueError(
            f"{NAME} calibrates the teacher, but the objective, {type(objective).__name__}, needs"
            " none; use one that does, such as ForwardKL, or remove the callback"
        )
    terms = _terms(objective)
    for term in terms:
        if problem := _problem(term):
            raise ValueError(f"{NAME} {problem}")
    if all(isinstance(term, FeatureObjective) for term in terms):
        names = ", ".join(type(term).__name__ for term in terms)
        raise ValueError(
            f"{NAME} changes the teacher's distribution, but the objective compares features only"
            f" ({names}); add a divergence, such as ForwardKL, or remove the callback"
        )


def check_target(source: LogitsSource, batch: Any) -> None:
    """Raise a ValueError for answers of a teacher that the labels of a batch say nothing about.

    Args:
        source: the teacher's logits.
        batch: what they answer.
    """
    if isinstance(batch, Mapping) and "teacher_mask" in batch:
        raise ValueError(
            f"{NAME} compares the teacher with the labels of the batch, but the teacher has another"
            " tokenizer and positions of its own (the batch has a teacher_mask), and so other"
            " labels; give the objective a temperature instead"
        )
    if source.without_labels() is not source:
        raise ValueError(_READS_LABELS)


def _terms(objective: Objective) -> list[Objective]:
    """Return the objectives in it that use the teacher and consist of no others that do."""
    using = [
        each
        for each in objective.modules()
        if isinstance(each, Objective) and "teacher" in each.needs
    ]
    routed: list[Objective] = [each for each in using if isinstance(each, RoutedKD)]
    return routed or [
        each
        for each in using
        if not any(part is not each and part in using for part in each.modules())
    ]


def _problem(term: Objective) -> str:
    name = type(term).__name__
    if not term.uses_probabilities and not isinstance(term, FeatureObjective):
        return (
            f"changes the teacher's distribution, but {name} compares outputs themselves, not"
            " probabilities, and would learn other outputs; use a divergence, such as ForwardKL"
        )
    if "rejected" in term.needs:
        return (
            f"calibrates what a student is to imitate, but in {name} the teacher is a reference,"
            " whose likelihoods are compared with those of the student; remove the callback"
        )
    if isinstance(term, RoutedKD):
        return (
            f"finds one temperature, for the average of several teachers, but {name} learns from"
            " each of them apart; give each one of its own, as in"
            " kdlight.FrozenTeacher(network, temperature=2.0)"
        )
    if getattr(term, "recalibrate", "logits") != "logits":
        return (
            f"finds a temperature of logits, but {name} takes the softmax of probabilities;"
            " set recalibrate='logits'"
        )
    student = getattr(term, "student_temperature", None)
    teacher = getattr(term, "teacher_temperature", getattr(term, "temperature", None))
    if student is not None and student != teacher:
        return (
            f"sets the temperature of the teacher, but {name} has one of its own, {teacher}, beside"
            f" {student} of the student, so that the student would not learn the calibrated"
            " confidence; set both to the same, such as 1"
        )
    return ""

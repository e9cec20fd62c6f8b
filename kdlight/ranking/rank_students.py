"""Students ranked by the similarity of their features to those of the teacher."""

from __future__ import annotations

import copy
import random
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import fmean, stdev
from typing import Any, TypeAlias

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from kdlight.checks import check_integer, check_type
from kdlight.models.recipes.student_recipe import StudentRecipe
from kdlight.ranking.network_reading import NetworkReading, compare, read_network
from kdlight.ranking.table import RankedStudent, Ranking

Network: TypeAlias = "nn.Module | Callable[[], nn.Module]"


def rank_students(
    teacher: Network,
    students: Mapping[str, Network | StudentRecipe],
    batch: Any,
    *,
    repeats: int = 5,
    seed: int = 0,
    teacher_path: str | None = None,
    student_paths: Mapping[str, str] | None = None,
) -> Ranking:
    r"""Rank students before any of them is trained, by how similar their features are.

    .. math:: -(M_s + M_r)

    :math:`M_s` compares the gradients of the cross-entropy with respect to the weights of the
    classifier, a matrix (classes, width), by the inter-channel correlation with classes as channels
    (`kdlight.losses.features.inter_channel_correlation`): which classes does a network find alike?
    :math:`M_r` compares the last features before the classifier, such as the maps of a
    convolutional network before they are averaged, by the similarity-preserving loss
    (`kdlight.losses.similarity_preserving`): which samples of the batch does it find alike? Both
    compare networks of any width and depth. The teacher itself has the score 0, the highest one.

    Where every token has logits of its own, each token of the batch is a sample, without padding.

    Dong, Li, Wei, "DisWOT: Student Architecture Search for Distillation WithOut Training", 2023.
    Their code takes the units of the classifier's input as channels of the gradient, for which all
    students must be as wide as the teacher. It draws all weights from N(0, 1), those of the teacher
    as well; here a network is compared with the weights that it has, or that its factory gives it.
    Do not expect more of the ranking than of the number of parameters before you have compared the
    two on students of your kind: `tests/studies/ranking.py` does so.

    Nothing is trained, and the networks given, their gradients and the random state stay as they
    are; modules are copied first. All networks run in evaluation mode. The score of a student
    depends on ``seed``, not on the other students.

    Args:
        teacher: a network from the batch to logits, with the weights that it has; or a factory of
            one, which is called for each initialization.
        students: networks by name. A factory (a function without arguments, also a class) is called
            for each initialization, a `kdlight.models.StudentRecipe` as well, and a module is
            compared once as it is.
        batch: a batch as the networks take it, of at least 2 samples. Without labels, the classes
            that the teacher finds most probable are the labels. A network that reads one entry of a
            batch is wrapped in `kdlight.SingleInput`.
        repeats: number of initializations of each student.
        seed: seed of the first initialization; the next ones add 1.
        teacher_path: path of the module of the teacher whose output is compared; by default the
            last one with maps or hidden states, see `kdlight.ranking.places.find_places`.
        student_paths: the same by name of the student.

    Returns:
        The students, the best one first; ``print`` shows a table.

    Raises:
        TypeError: If a network is neither a module nor a factory of one.
        ValueError: If there are no students, a path leads to no module, the classes differ, a
            factory returns the same module twice, there is only one sample, or features are not
            finite.

    Example:
        >>> from functools import partial
        >>> from kdlight.models.digits import ConvNet, TinyNet
        >>> torch.manual_seed(0)
        <torch._C.Generator object at ...>
        >>> students = {"small": partial(ConvNet, channels=4), "tiny": TinyNet}
        >>> ranking = rank_students(ConvNet(), students, torch.randn(16, 1, 8, 8))
        >>> [student.name for student in ranking]
        ['small', 'tiny']
    """
    check_integer("repeats", repeats, 1)
    check_integer("seed", seed, 0, 2**32 - 1 - repeats)  # which NumPy takes
    _check_networks(teacher, students)
    paths = dict(student_paths or {})
    unknown = sorted(set(paths) - set(students))
    if unknown:
        raise ValueError(f"student_paths has {unknown}, but the students are {sorted(students)}")
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in students}
    sizes: dict[str, int] = {}
    made: list[weakref.ref[nn.Module]] = []
    with isolate_rng():
        known: tuple[nn.Module, NetworkReading] | None = None
        for repeat in range(repeats):
            if known is None or not isinstance(teacher, nn.Module):
                network = _make("teacher", teacher, seed + repeat, made)
                known = network, _read("the teacher", network, batch, teacher_path)
            network, target = known
            if len(target.rows) < 2:
                raise ValueError(
                    "batch must have at least 2 samples, whose relations are compared, got"
                    f" {len(target.rows)}"
                )
            device = target.rows.device
            for name, given in students.items():
                if repeat and isinstance(given, nn.Module) and isinstance(teacher, nn.Module):
                    continue  # both are as in the first one
                student = _student(name, given, seed + repeat, made, network)
                sizes[name] = sum(parameter.numel() for parameter in student.parameters())
                found = _read(
                    f"student {name!r}", student.to(device), batch, paths.get(name), target
                )
                with _named(f"student {name!r}"):
                    runs[name].append(compare(found, target))
    ranked = [_summary(name, found, sizes[name]) for name, found in runs.items()]
    return Ranking(sorted(ranked, key=lambda each: -each.score))


def _summary(name: str, runs: list[tuple[float, float]], parameters: int) -> RankedStudent:
    scores = [0.0 - semantic - relation for semantic, relation in runs]
    spread = stdev(scores) if len(scores) > 1 else 0.0
    semantic, relation = (fmean(each) for each in zip(*runs, strict=True))
    return RankedStudent(name, fmean(scores), spread, semantic, relation, parameters, len(runs))


def _read(
    who: str, network: nn.Module, batch: Any, path: str | None, target: NetworkReading | None = None
) -> NetworkReading:
    with _named(who):
        return read_network(network, batch, path=path, teacher=target)


@contextmanager
def _named(who: str) -> Iterator[None]:
    """Say in an error which network it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from error


def _student(
    name: str, given: Any, seed: int, made: list[weakref.ref[nn.Module]], teacher: nn.Module
) -> nn.Module:
    """Return a copy of a module, or a new one of a recipe or a factory."""
    if isinstance(given, StudentRecipe):
        _seed(seed)
        return given.build(teacher)
    return copy.deepcopy(given) if isinstance(given, nn.Module) else _make(name, given, seed, made)


def _make(name: str, given: Any, seed: int, made: list[weakref.ref[nn.Module]]) -> nn.Module:
    """Return a module as it is, or a new one of a factory."""
    if isinstance(given, nn.Module):
        return given
    _seed(seed)
    module = given()
    if not isinstance(module, nn.Module):
        raise TypeError(f"the factory {name!r} must return a module, got {type(module).__name__}")
    if any(module is each() for each in made):
        raise ValueError(
            f"the factory {name!r} returns the same module again, which has one initialization; let"
            " it create a module at each call, or pass the module itself"
        )
    made.append(weakref.ref(module))
    return module


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _check_networks(teacher: Any, students: Any) -> None:
    check_type("students", students, Mapping, "a mapping from names to networks")
    if not students:
        raise ValueError("students must have at least one network, got none")
    networks = {f"students[{name!r}]": given for name, given in students.items()}
    for name, given in {"teacher": teacher, **networks}.items():
        is_recipe = isinstance(given, StudentRecipe) and name != "teacher"
        if not callable(given) and not is_recipe:
            raise TypeError(
                f"{name} must be a module or a function without arguments that creates one, got"
                f" {type(given).__name__}"
            )

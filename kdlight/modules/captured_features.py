"""The features that an objective compares, captured in the forward passes of a batch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from kdlight.distributed.backward_entry import ShardedOutputs
from kdlight.distributed.divided import check_undivided
from kdlight.features import Capture, FeaturePath, find_module
from kdlight.modules.feature_masks import feature_masks, own_positions
from kdlight.objectives import Objective
from kdlight.objectives.features.feature_objective import FeatureObjective, feature_paths
from kdlight.teachers import Teacher


class CapturedFeatures:
    """The features of one batch; they are read after the forward passes.

    Args:
        student: features of the student's network.
        teacher: features of the teacher's network.
        outputs: what the student's network returned, if it is sharded.
        inside: paths of the student that lead inside of a sharded module.
        compared: paths of the student that are compared with the teacher's, and so must be trained.
        own: paths of the student whose positions are not those of the logits.
    """

    def __init__(
        self,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor],
        outputs: ShardedOutputs,
        inside: Collection[str],
        compared: Collection[str],
        own: Collection[str],
    ) -> None:
        self.student, self.teacher = student, teacher
        self.outputs, self.inside, self.own = outputs, inside, own
        self.compared = compared

    def fields(self, batch: Any, network: nn.Module | None) -> dict[str, Any]:
        """Return the fields of `kdlight.LossInputs` that have features.

        Args:
            batch: the batch, whose mask marks padding.
            network: the student's network, if it is known.

        Raises:
            ValueError: a feature was not captured, or one of the student has no graph.
        """
        student, teacher = dict(self.student), dict(self.teacher)
        masks = feature_masks(student, batch, network, self.own)
        for path in self.compared:
            _check_graph(path, student[path], self.outputs.network)
        for path in self.inside:
            student[path] = self.outputs.attach(student[path])
        return {
            "student_features": student,
            "teacher_features": teacher,
            "feature_masks": masks,
            "own_positions": self.own,
        }


@contextmanager
def capture_features(
    objective: Objective, student: nn.Module, teacher: Any
) -> Iterator[CapturedFeatures | None]:
    """Capture what ``objective`` reads while student and teacher run; None if it is nothing.

    Args:
        objective: the objective.
        student: the network that is trained.
        teacher: a `kdlight.teachers.Teacher`, or None.

    Raises:
        ValueError: a path leads to no module, a network is compiled, the teacher is not one live
            network, or tensor parallelism divides a feature.
    """
    ours, theirs = feature_paths(objective)
    if not ours:
        yield None
        return
    network = teacher_network(objective, teacher) if theirs else None
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        check_undivided(student, {path: find_module(student, path) for path in ours})
        if network is not None:
            check_undivided(network, {path: find_module(network, path) for path in theirs})
    with ExitStack() as stack:
        one = stack.enter_context(Capture(student, ours))
        other = {} if network is None else stack.enter_context(Capture(network, theirs))
        outputs = stack.enter_context(ShardedOutputs(student))
        own = own_positions(student, one.modules)
        compared = [each for each in ours if each in _compared(objective)]
        yield CapturedFeatures(one, other, outputs, _inside(student, ours), compared, own)


def check_features(objective: Objective, student: nn.Module, teacher: Any) -> None:
    """Raise a ValueError where the features of an objective cannot be captured."""
    with capture_features(objective, student, teacher):
        pass


def teacher_network(objective: Objective, teacher: Any) -> nn.Module:
    """Return the network that a teacher consists of.

    Raises:
        ValueError: it consists of none or of several, or is asked about some rows of a batch only.
    """
    networks = teacher.networks() if isinstance(teacher, Teacher) else []
    several = isinstance(teacher, Teacher) and len(list(teacher.teachers())) > 1
    if len(networks) == 1 and not several and not teacher.needs_student:
        return networks[0]
    if not networks:
        has = "has none"
    elif several or len(networks) > 1:
        has = "consists of several"
    else:
        has = "asks it about some rows of a batch only"
    raise ValueError(
        f"the objective {type(objective).__name__} compares features, which are inside one live"
        f" network, but the teacher ({type(teacher).__name__}) {has}; pass a network or a"
        " kdlight.FrozenTeacher"
    )


def check_not_compiled(objective: Objective, module: nn.Module) -> None:
    """Raise a ValueError where a LightningModule is compiled that is to capture features."""
    paths = [path for side in feature_paths(objective) for path in side]
    if paths and getattr(module, "_compiler_ctx", None):  # set by Lightning
        raise ValueError(
            f"the feature {paths[0]!r} cannot be captured: {type(module).__name__} is compiled, and"
            " torch.compile leaves out what is captured inside of it; pass the module to the"
            " trainer without torch.compile"
        )


def _compared(objective: Objective) -> set[str]:
    """Return the paths of the student's features that are compared with those of the teacher."""
    parts = [part for part in objective.modules() if isinstance(part, FeatureObjective)]
    return {path for part in parts for path in part.paths}


def _inside(network: nn.Module, paths: Iterable[str]) -> list[str]:
    """Return the paths that are no outputs of a sharded module, which have the hooks of FSDP2."""
    return [
        path
        for path in paths
        if FeaturePath.parse(path).side == "input"
        or not isinstance(find_module(network, path), FSDPModule)
    ]


def _check_graph(path: str, feature: Tensor, network: nn.Module) -> None:
    if not torch.is_grad_enabled() or feature.requires_grad:
        return
    if network.training and any(p.requires_grad for p in network.parameters()):
        raise ValueError(
            f"the feature {path!r} of the student has no gradient: nothing before it is trained, or"
            " it is inside of gradient checkpointing with use_reentrant=True; choose a later path,"
            " or use_reentrant=False"
        )

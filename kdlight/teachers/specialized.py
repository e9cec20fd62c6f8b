"""Teachers that are made of few networks by masks at different features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from kdlight.checks import check_type
from kdlight.teachers.base import Teacher
from kdlight.teachers.ensemble import TeacherEnsemble
from kdlight.teachers.frozen import FrozenTeacher
from kdlight.teachers.masked import MaskedTeacher


class SpecializedTeachers(TeacherEnsemble):
    """An ensemble of `MaskedTeacher`, one for each path, which share the networks they mask.

    Li, Yang et al., "MST-Distill: Mixture of Specialized Teachers for Cross-Modal Knowledge
    Distillation", 2025, makes four teachers of two networks, at two features of each. A teacher is
    called ``NETWORK/PATH``. `kdlight.objectives.RoutedKD` chooses among them, and
    `kdlight.callbacks.TrainMasksFirst` trains their masks.

    Args:
        teachers: networks, or teachers of one, by name.
        masks: the paths to mask by the same names, each of which makes a teacher; a network without
            any is a teacher as it is.
        heads: see `MaskedTeacher`.
        sizes: see `MaskedTeacher`, by the names of networks.

    Raises:
        ValueError: ``masks`` or ``sizes`` names a network that is not among the teachers; what
            `MaskedTeacher` refuses, with the name of the teacher.
        TypeError: ``teachers`` is not a mapping, or the paths of a network are no list.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3))
        >>> ensemble = SpecializedTeachers({"large": network}, {"large": ["0", "1"]})
        >>> [*ensemble.by_name], len(ensemble.networks())
        (['large/0', 'large/1'], 1)
    """

    def __init__(
        self,
        teachers: Mapping[str, nn.Module | Teacher],
        masks: dict[str, list[str]],
        *,
        heads: int = 3,
        sizes: dict[str, dict[str, int]] | None = None,
    ) -> None:
        if not isinstance(teachers, Mapping):
            raise TypeError(
                f"teachers must map names to networks, as in {{'large': ...}}, got"
                f" {type(teachers).__name__}"
            )
        sizes = sizes or {}
        for argument, named in (("masks", masks), ("sizes", sizes)):
            unknown = sorted(set(named) - set(teachers))
            if unknown:
                raise ValueError(f"{argument} has {unknown}, but the teachers are {[*teachers]}")
        made: dict[str, nn.Module | Teacher] = {}
        for name, each in teachers.items():
            shared = each if isinstance(each, Teacher) else FrozenTeacher(each)
            paths: Sequence[str] = masks.get(name, [])
            check_type(f"masks[{name!r}]", paths, (list, tuple), "a list of paths")
            for path in paths:
                own = {at: size for at, size in sizes.get(name, {}).items() if at == path}
                try:
                    made[f"{name}/{path}"] = MaskedTeacher(shared, [path], heads=heads, sizes=own)
                except ValueError as error:
                    raise ValueError(f"teacher {name!r}, path {path!r}: {error}") from error
            if not paths:
                made[name] = shared
        super().__init__(made)

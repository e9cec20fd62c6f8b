"""A teacher whose features are multiplied by trained masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from kdlight.checks import check_type
from kdlight.features import FeaturePath, feature_width, find_modules
from kdlight.features.selection import output_feature, tensors_in
from kdlight.sources import Logits, LogitsSource
from kdlight.teachers.base import Teacher
from kdlight.teachers.feature_mask import FeatureMask
from kdlight.teachers.frozen import FrozenTeacher


class MaskedTeacher(Teacher):
    """A live network whose features at some paths are multiplied by masks that are trained.

    Li, Yang et al., "MST-Distill: Mixture of Specialized Teachers for Cross-Modal Knowledge
    Distillation", 2025: masks adapt a teacher to what its student can know, such as to the modality
    of the student. Masks at other paths make other teachers of the same network, which is shared:
    give several `MaskedTeacher` the same network or `kdlight.FrozenTeacher`, or use a
    `kdlight.teachers.SpecializedTeachers`. The masks are there only while this teacher answers.

    `kdlight.callbacks.TrainMasksFirst` trains the masks, and saves them with its state, as no part
    of a teacher is in a checkpoint. Until they are trained or loaded, the teacher does not answer:
    a new mask would halve its features.

    Args:
        teacher: a network, or a `kdlight.FrozenTeacher` that is not sharded.
        paths: modules whose outputs are masked, see `kdlight.features.FeaturePath`.
        heads: attention heads of each mask, see `kdlight.teachers.feature_mask.FeatureMask`.
        sizes: the number of channels by path, where a module does not tell.

    Raises:
        TypeError: ``teacher`` is no live network; ``paths`` is one string.
        ValueError: no path; a path that leads to no module, or to an input; a feature whose number
            of channels is unknown, or too small for ``heads``; a sharded teacher. With a batch: the
            masks are not trained; a module did not run, or returned no tensor.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> teacher = MaskedTeacher(network, ["0"])
        >>> teacher.load_state_dict(teacher.state_dict())  # as if they were trained
        >>> teacher(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        teacher: nn.Module | Teacher,
        paths: Sequence[str],
        *,
        heads: int = 3,
        sizes: dict[str, int] | None = None,
    ) -> None:
        frozen = teacher if isinstance(teacher, Teacher) else FrozenTeacher(teacher)
        if not isinstance(frozen, FrozenTeacher) or not isinstance(frozen.model, nn.Module):
            raise TypeError(
                "teacher must be a network or a FrozenTeacher of one, whose features can be masked,"
                f" got {type(teacher).__name__}"
            )
        if frozen.is_sharded:
            raise ValueError(
                "masks need whole features, but the teacher is to be sharded; set shard=False"
            )
        check_type("paths", paths, (list, tuple), "a list of paths")
        if not paths:
            raise ValueError("paths is empty; give at least one path of a module of the teacher")
        self.teacher = frozen
        self._modules = find_modules(frozen.model, paths)
        unknown = sorted(set(sizes or {}) - set(self._modules))
        if unknown:
            raise ValueError(f"sizes has {unknown}, but the paths are {[*self._modules]}")
        made = [_mask(frozen.model, path, heads, sizes or {}) for path in self._modules]
        self.masks = nn.ModuleList(made)
        self.is_trained = False

    @property
    def paths(self) -> list[str]:
        """The paths of the masked features."""
        return [*self._modules]

    def teachers(self) -> Iterable[Teacher]:
        """Return the teacher without masks."""
        return (self.teacher,)

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        """Return the logits of the masked network for ``batch``."""
        # on fake tensors, which `kdlight doctor` uses, only shapes are wanted
        is_fake = any(isinstance(each, FakeTensor) for each in tensors_in(batch))
        if not self.is_trained and not is_fake:
            raise ValueError(
                f"the masks of a MaskedTeacher at {self.paths} are not trained: add the callback"
                " kdlight.callbacks.TrainMasksFirst to the fit, or load masks by load_state_dict"
            )
        with self._masked():
            return self.teacher.answer(batch, student, labels)

    def compute(self, batch: Any) -> LogitsSource:
        """Return the logits of the masked network, with a graph of the masks, trained or not."""
        with self._masked():
            return self.teacher.compute(batch)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights of the masks."""
        return self.masks.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the weights of the masks, which are trained then."""
        self.masks.load_state_dict(state_dict)
        self.finish()

    def finish(self) -> None:
        """Freeze the masks: they are trained."""
        self.masks.requires_grad_(False)
        self.is_trained = True

    def release(self) -> None:
        """Free device memory; called after a run."""
        super().release()
        self.masks.to("cpu")

    @contextmanager
    def _masked(self) -> Iterator[None]:
        """Mask the features within the block, and check that all were."""
        ran: set[str] = set()
        handles = [
            module.register_forward_hook(_Hook(path, mask, ran))
            for (path, module), mask in zip(self._modules.items(), self.masks, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        missing = [path for path in self.paths if path not in ran]
        if missing:
            raise ValueError(
                f"the module {missing[0]!r} of the teacher did not run in the forward pass (the"
                " output head of a kdlight.CausalLM, for example, is applied later), so its output"
                " was not masked; choose another path"
            )


class _Hook:
    """Multiplies what a module returns, or a tensor of a tuple, by its mask."""

    def __init__(self, path: str, mask: nn.Module, ran: set[str]) -> None:
        self.path, self.mask, self.ran = path, mask, ran

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        self.ran.add(self.path)
        feature = output_feature(self.path, FeaturePath.parse(self.path), output)
        if next(self.mask.parameters()).device != feature.device:
            self.mask.to(feature.device)
        masked = feature * self.mask(feature)
        if output is feature:
            return masked
        if type(output) in (tuple, list):
            return type(output)(masked if each is feature else each for each in output)
        raise ValueError(
            f"the output of {self.path!r} is a {type(output).__name__}, in which no tensor can be"
            " replaced; choose a module that returns a tensor, or a tuple of them"
        )


def _mask(network: nn.Module, path: str, heads: int, sizes: Mapping[str, int]) -> FeatureMask:
    if FeaturePath.parse(path).side == "input":
        raise ValueError(
            f"masks multiply the outputs of modules, but {path!r} is an input; give the path of the"
            " module that computes it"
        )
    size = sizes.get(path) or feature_width(network, path)
    if size is None:
        raise ValueError(
            f"the number of channels of {path!r} cannot be told from its module; pass"
            f" sizes={{{path!r}: ...}}"
        )
    return FeatureMask(size, heads)

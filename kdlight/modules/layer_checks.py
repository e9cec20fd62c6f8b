"""Check pairs of modules, and that a strategy lets them run by themselves."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.strategies import Strategy
from torch import nn

from kdlight.distributed.whole import keeps_networks_whole
from kdlight.features import FeaturePath, find_module
from kdlight.models import ModelKind
from kdlight.modules.optimizers import trainable


def check_pairs(student: nn.Module, paths: Mapping[str, str]) -> dict[str, str]:
    """Check pairs of modules; return the full names of the student's by path.

    Args:
        student: the student.
        paths: the path of the teacher's module for each path of the student's.

    Raises:
        ValueError: a path is that of an input, a module has no trainable parameters, or two share
            parameters.

    Example:
        >>> check_pairs(nn.Sequential(nn.Sequential(nn.Linear(2, 3))), {"0.0:output": "0"})
        {'0.0:output': '0.0'}
    """
    names = {id(module): name for name, module in student.named_modules()}
    found: dict[str, str] = {}
    owners: dict[int, str] = {}
    for path, theirs in paths.items():
        for side in (path, theirs):
            if FeaturePath.parse(side).side == "input":
                raise ValueError(
                    f"pairs must be paths of modules, or of outputs of them, got the input {side!r}"
                )
        module = find_module(student, path)
        if not trainable(module):
            raise ValueError(
                f"the module {path!r} of the student has no trainable parameters; leave it out"
            )
        found[path] = names[id(module)]
        for parameter in module.parameters():
            owner = owners.setdefault(id(parameter), path)
            if owner != path:
                raise ValueError(
                    f"the modules {owner!r} and {path!r} of the student share parameters, but each"
                    " is trained by itself; choose modules of which none is inside another"
                )
    return found


def check_one_stack(kind: ModelKind) -> None:
    """Raise a ValueError for an encoder-decoder, whose modules have positions of two kinds.

    Example:
        >>> check_one_stack(ModelKind())
    """
    if kind.is_encoder_decoder:
        raise ValueError(
            "the modules of an encoder and of a decoder have different positions, and a batch has"
            " the labels of one of them; train an encoder or a decoder by itself"
        )


def check_whole(strategy: Strategy) -> None:
    """Raise a ValueError for a strategy that does not let modules of a student run by themselves.

    Example:
        >>> from lightning.pytorch.strategies import DDPStrategy
        >>> check_whole(DDPStrategy())
    """
    if not keeps_networks_whole(strategy):
        raise ValueError(
            "layer-wise distillation calls modules of the student by themselves, which"
            f" {type(strategy).__name__} cannot: it gathers weights where the whole student runs;"
            " use one device, or strategy='ddp'"
        )

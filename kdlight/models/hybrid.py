"""A frozen network in which one module is replaced by another, which is trained."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from typing_extensions import Self

from kdlight.checks import check_integer
from kdlight.models.stitching import Side, Width, make_stitch, width_of


class Hybrid(nn.Module):
    r"""A frozen meta network in which one module is replaced by ``module``, (...) -> (..., V).

    .. math:: m_L \circ \dots \circ m_{i+1} \circ f \circ m_{i-1} \circ \dots \circ m_1

    A deep teacher and a student are cut into L modules each, see `kdlight.models.cut_modules`. A
    shallow meta network of L modules is trained first. Then each module of the student learns from
    that of the teacher at the same place: the hybrid with the student's module is the student, the
    hybrid with the teacher's the teacher of a `kdlight.DistillationModule`. The L pairs do not
    depend on each other. Afterwards `kdlight.models.assemble` makes one network of the trained
    modules, which is fine-tuned.

    Lo et al., "m2mKD: Module-to-Module Knowledge Distillation for Modular Transformers", 2024.

    The other modules of the meta network are copied, so that the given network stays as it is, and
    two hybrids of one meta network share nothing. The copies require no gradient and are in
    evaluation mode, also after ``train()`` and ``requires_grad_()``; gradients flow through them to
    ``module``, which is not copied. They are in ``state_dict()``, so that a checkpoint holds all
    that the network computes with; ``hybrid.module.state_dict()`` is the trained module alone.
    Lightning warns of modules in evaluation mode at the start of a fit, and means these copies.

    The first module reads the input and the last one gives the logits, so no stitch is added before
    the first module or after the last one.

    Args:
        meta: the meta network: a `torch.nn.Sequential`, or at least two modules in order.
        index: number of the module to replace, from 0; negative numbers count from the end.
        module: the module in its place.
        stitch: add a trainable linear layer (in maps a convolution of size 1) before and after
            ``module`` where its width differs from that of the module that it replaces. The widths
            are read from the layers at its ends and at those of the replaced module. False adds
            none: choose it for a teacher, whose targets would otherwise depend on layers that
            nobody trained.

    Attributes:
        index: number of the replaced module, from 0.
        module: the module in its place.
        stitch_in, stitch_out: the stitches; None where the widths are equal.

    Raises:
        TypeError: If ``meta`` is no sequence of modules, or ``module`` is no module.
        ValueError: If there is no such module in ``meta``; if a width is not known, or widths
            differ where no stitch is added.

    Example:
        >>> import torch
        >>> meta = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3))
        >>> hybrid = Hybrid(meta, 1, nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 8)))
        >>> hybrid(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
        >>> [name for name, p in hybrid.named_parameters() if p.requires_grad]
        ['module.0.weight', 'module.0.bias', 'module.2.weight', 'module.2.bias']
    """

    def __init__(
        self,
        meta: nn.Sequential | Sequence[nn.Module],
        index: int,
        module: nn.Module,
        stitch: bool = True,
    ) -> None:
        super().__init__()
        modules = _check_modules(meta)
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        check_integer("index", index, -len(modules), len(modules) - 1)
        self.index = int(index) % len(modules)
        self.before = nn.Sequential(*copy.deepcopy(modules[: self.index]))
        self.module = module
        self.after = nn.Sequential(*copy.deepcopy(modules[self.index + 1 :]))
        replaced = modules[self.index]
        self.stitch_in = self._stitch(replaced, "input", bool(stitch))
        self.stitch_out = self._stitch(replaced, "output", bool(stitch))
        self._freeze()

    def forward(self, inputs: Any) -> Any:
        """Run the meta network with the module in place."""
        hidden = self.before(inputs)
        if self.stitch_in is not None:
            hidden = self.stitch_in(hidden)
        hidden = self.module(hidden)
        if self.stitch_out is not None:
            hidden = self.stitch_out(hidden)
        return self.after(hidden)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of ``module`` and the stitches; the meta network stays in evaluation."""
        super().train(mode)
        self._freeze()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Change whether ``module`` and the stitches are trained; the meta network never is."""
        super().requires_grad_(requires_grad)
        self._freeze()
        return self

    def _freeze(self) -> None:
        for part in (self.before, self.after):
            part.requires_grad_(False)
            for each in part.modules():
                each.training = False

    def _stitch(self, replaced: nn.Module, side: Side, stitch: bool) -> nn.Module | None:
        """Return the layer between the meta network and one side of the module, if any."""
        is_end = len(self.before if side == "input" else self.after) == 0
        ours, theirs = width_of(self.module, side), width_of(replaced, side)
        if ours is None or theirs is None:
            if stitch and not is_end:
                raise ValueError(_unknown(side, self.module if ours is None else replaced))
            return None
        if ours == theirs:
            return None
        if is_end or not stitch:
            raise ValueError(_different(side, ours, theirs, is_end))
        return make_stitch(theirs, ours) if side == "input" else make_stitch(ours, theirs)


def _check_modules(meta: Any) -> list[nn.Module]:
    if isinstance(meta, nn.Module) and not isinstance(meta, (nn.Sequential, nn.ModuleList)):
        raise TypeError(
            f"meta must be an nn.Sequential or a list of modules, got a {type(meta).__name__}; cut"
            " it into modules that run one after the other"
        )
    modules = list(meta) if isinstance(meta, Iterable) else [meta]
    if not all(isinstance(each, nn.Module) for each in modules):
        kinds = sorted({type(each).__name__ for each in modules})
        raise TypeError(f"meta must be an nn.Sequential or a list of modules, got {kinds}")
    if len(modules) < 2:
        raise ValueError(
            f"meta must have at least 2 modules, got {len(modules)}: one is replaced, and the"
            " others are frozen"
        )
    return modules


def _unknown(side: Side, module: nn.Module) -> str:
    return (
        f"the {side} width of {type(module).__name__} is not known from its layers, so it is not"
        " clear whether a stitch is needed; set stitch=False, and if the widths differ put layers"
        " of your own around the module: nn.Sequential(nn.Linear(a, b), module, nn.Linear(c, d))"
    )


def _different(side: Side, ours: Width, theirs: Width, is_end: bool) -> str:
    end = "reads the input" if side == "input" else "gives the logits"
    why = (
        f"the module {end} of the network, where no stitch is added"
        if is_end
        else "stitch=False adds no layer between them"
    )
    return (
        f"the {side} of module has {ours}, that of the module it replaces {theirs}; {why}; give a"
        " module of that width"
    )

"""Check that the mixin and a module do not use one name for different things."""

from __future__ import annotations

from lightning.pytorch import LightningModule

ATTRIBUTES = {"chunked", "normalization", "objective", "task_weight", "teacher"}
"""Attributes that `kdlight.DistillationMixin` sets on the module, besides its methods."""


def check_bases(cls: type, mixin: type) -> None:
    """Raise a TypeError if bases of ``cls`` are in the wrong order, or use a name of the mixin."""
    order = cls.__mro__
    place = order.index(mixin)
    for base in order[:place]:
        if issubclass(base, LightningModule) and not issubclass(base, mixin):
            raise TypeError(
                f"{cls.__name__} has the base {base.__name__} before {mixin.__name__}, so that the"
                " training step of the mixin would never run; write class"
                f" {cls.__name__}({mixin.__name__}, {base.__name__})"
            )
    known = {*mixin.__mro__, *LightningModule.__mro__}
    for base in (base for base in order[place:] if base not in known):
        taken = _names(mixin) & vars(base).keys()
        if taken:
            raise TypeError(_message(base.__name__, taken, mixin))


def check_attributes(module: LightningModule, mixin: type) -> None:
    """Raise a ValueError if ``module`` has an attribute of a name that the mixin uses."""
    attributes = {*vars(module), *module._modules, *module._parameters, *module._buffers}
    taken = _names(mixin) & attributes
    if taken:
        raise ValueError(_message(type(module).__name__, taken, mixin))


def _names(mixin: type) -> set[str]:
    """Return the names that the mixin adds to a LightningModule."""
    bases = [base for base in mixin.__mro__ if base not in LightningModule.__mro__]
    added = {name for base in bases for name in vars(base)} - set(dir(LightningModule))
    return ATTRIBUTES | {name for name in added if not name.startswith("__")}


def _message(owner: str, taken: set[str], mixin: type) -> str:
    names = ", ".join(sorted(taken))
    return (
        f"{owner} has {names} of its own, which {mixin.__name__} uses for something else; rename it"
        " there, or subclass kdlight.DistillationModule and pass the network to it"
    )

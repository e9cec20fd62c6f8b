"""Do two classes mean the same by a name? A mixin meets modules that do not know of it."""

from __future__ import annotations

from lightning.pytorch import LightningModule

ATTRIBUTES = {"chunked", "normalization", "objective", "task_weight", "teacher"}
"""What `kdlight.DistillationMixin` keeps on the module, besides its methods."""


def check_bases(cls: type, mixin: type) -> None:
    """Raise a TypeError where ``cls`` has its bases in the wrong order, or ones that disagree."""
    order = cls.__mro__
    place = order.index(mixin)
    for base in order[:place]:
        if issubclass(base, LightningModule) and not issubclass(base, mixin):
            raise TypeError(
                f"{cls.__name__} names {base.__name__} before {mixin.__name__}, whose training step"
                f" would never run; write class {cls.__name__}({mixin.__name__}, {base.__name__})"
            )
    known = {*mixin.__mro__, *LightningModule.__mro__}
    for base in (base for base in order[place:] if base not in known):
        taken = _names(mixin) & vars(base).keys()
        if taken:
            raise TypeError(_message(base.__name__, taken, mixin))


def check_attributes(module: LightningModule, mixin: type) -> None:
    """Raise a ValueError where ``module`` keeps something else under a name of the mixin's."""
    kept = {*vars(module), *module._modules, *module._parameters, *module._buffers}
    taken = _names(mixin) & kept
    if taken:
        raise ValueError(_message(type(module).__name__, taken, mixin))


def _names(mixin: type) -> set[str]:
    """What the mixin adds to a LightningModule."""
    ours = [base for base in mixin.__mro__ if base not in LightningModule.__mro__]
    added = {name for base in ours for name in vars(base)} - set(dir(LightningModule))
    return ATTRIBUTES | {name for name in added if not name.startswith("__")}


def _message(owner: str, taken: set[str], mixin: type) -> str:
    names = ", ".join(sorted(taken))
    return (
        f"{owner} has {names} of its own, and {mixin.__name__} means something else by it; rename"
        " it there, or subclass kdlight.DistillationModule and give it the network"
    )

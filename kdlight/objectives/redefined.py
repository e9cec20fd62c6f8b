"""Whether a faster way to a loss is of the same loss, or of a class that it is derived from."""

from __future__ import annotations

from functools import cache

from torch import nn

BESIDE = (frozenset(vars(nn.Module)) - {"forward"}) | {"bind", "check", "per_sample_loss"}
"""Methods that a subclass may define without another loss."""


def is_redefined(objective: nn.Module, *shortcuts: str, beside: frozenset[str] = BESIDE) -> bool:
    """Return whether the loss of ``objective`` is not that of its inherited ``shortcuts``.

    A shortcut is a method that computes a loss in a faster way, together with its gradient or with
    other terms. A subclass, a mixin or the object itself may redefine another method of the class
    that has the shortcut, by which its loss may become a different one. The shortcut would then
    silently compute the loss of the parent. One that is defined in the same place is used.

    Args:
        objective: the objective.
        shortcuts: names of its methods that belong together.
        beside: names of methods that do not change the loss.

    Example:
        >>> from kdlight.objectives import ForwardKL
        >>> class Doubled(ForwardKL):
        ...     def divergence(self, student, teacher, labels):
        ...         return 2 * super().divergence(student, teacher, labels)
        >>> [is_redefined(each, "divergence_and_grad") for each in (ForwardKL(), Doubled())]
        [False, True]
    """
    kind = type(objective)
    own = {name for name, value in vars(objective).items() if callable(value)}
    return _is_redefined(kind, shortcuts, beside) or _changes(own - set(shortcuts), kind, beside)


@cache
def _is_redefined(kind: type, shortcuts: tuple[str, ...], beside: frozenset[str]) -> bool:
    names: set[str] = set()
    for each in kind.__mro__:
        if not vars(each).keys().isdisjoint(shortcuts):
            return _changes(names, each, beside)
        names |= {name for name, value in vars(each).items() if _is_method(value)}
    return False


def _is_method(value: object) -> bool:
    return callable(value) or isinstance(value, (staticmethod, classmethod))


def _changes(names: set[str], definer: type, beside: frozenset[str]) -> bool:
    known = (name for name in names - beside if not name.startswith("__"))
    return any(callable(getattr(definer, name, None)) for name in known)

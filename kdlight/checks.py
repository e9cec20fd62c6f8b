"""Checks of hyper-parameters. Each error names the argument, what is allowed and the value got."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan
from numbers import Integral
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def check_range(
    name: str, value: float, low: float, high: float, *, open_high: bool = False
) -> None:
    """Raise an error for a number outside ``[low, high]``, or ``[low, high)`` with ``open_high``.

    Raises:
        ValueError: If the number is outside the range. NaN is outside every range.

    >>> check_range("beta", 1.5, 0.0, 1.0)
    Traceback (most recent call last):
    ValueError: beta must be in [0.0, 1.0], got 1.5
    """
    if not low <= value <= high or (open_high and value == high):
        end = ")" if open_high else "]"
        raise ValueError(f"{name} must be in [{low}, {high}{end}, got {value}")


def check_positive(name: str, value: float) -> None:
    """Raise an error for a number that is not above 0 and finite.

    Raises:
        ValueError: If the number is 0, negative, infinite or NaN.

    >>> check_positive("temperature", 0.0)
    Traceback (most recent call last):
    ValueError: temperature must be above 0 and finite, got 0.0
    """
    if not 0 < value < inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")


def can_read(tensor: Tensor) -> bool:
    """Return whether a value of ``tensor`` can be read without waiting for a device.

    A loss asks for values only where this is so: on an accelerator the host would wait until the
    device has computed them, and the device would then wait for the host. Code that is compiled
    cannot ask at all.

    >>> import torch
    >>> can_read(torch.zeros(1)), can_read(torch.zeros(1, device="meta"))
    (True, False)
    """
    import torch

    return _is_on_host(tensor) and not torch.compiler.is_compiling()


def _is_on_host(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def check_positive_tensor(name: str, value: Tensor) -> Tensor:
    """Return a tensor whose numbers must be above 0 and finite, with NaN in place of all others.

    Raises:
        ValueError: If a number is 0, negative, infinite or NaN, and the tensor is on the CPU, where
            it can be read without waiting.

    >>> import torch
    >>> check_positive_tensor("temperature", torch.tensor(-1.0))
    Traceback (most recent call last):
    ValueError: temperature must be above 0 and finite, got -1.0
    """
    import torch

    valid = (value > 0) & (value < inf)
    if can_read(value):
        try:
            wrong = value.detach()[~valid]
        except RuntimeError:  # within torch.func.vmap, or without values: nothing to read
            wrong = value.new_empty(0)
        if wrong.numel():
            raise ValueError(f"{name} must be above 0 and finite, got {wrong.flatten()[0].item()}")
    return torch.where(valid, value, nan)


def check_at_least(name: str, value: float, low: float) -> None:
    """Raise an error for a number below ``low``.

    Raises:
        ValueError: If the number is below ``low``, or NaN.

    >>> check_at_least("bins", 0, 1)
    Traceback (most recent call last):
    ValueError: bins must be at least 1, got 0
    """
    if not value >= low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def check_finite(name: str, value: float) -> None:
    """Raise an error for a number that is infinite or NaN.

    Raises:
        ValueError: If the number is not finite.

    >>> check_finite("start", inf)
    Traceback (most recent call last):
    ValueError: start must be a finite number, got inf
    """
    if not -inf < value < inf:  # which torch.compile can trace, unlike math.isfinite
        raise ValueError(f"{name} must be a finite number, got {value}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise an error for a value that is not among the choices.

    Raises:
        ValueError: If the value is not among the choices.

    >>> check_choice("reduction", "max", ("mean", "sum"))
    Traceback (most recent call last):
    ValueError: reduction must be one of 'mean', 'sum', got 'max'
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_type(name: str, value: Any, kinds: Any, words: str) -> None:
    """Raise an error for a value of another kind.

    Args:
        name: name of the argument.
        value: the value.
        kinds: the allowed class, or a tuple of classes. True and False are no numbers.
        words: what they are, for the message.

    Raises:
        TypeError: If the value is of none of the classes.

    >>> check_type("text_field", 5, str, "a text")
    Traceback (most recent call last):
    TypeError: text_field must be a text, got 5 (int)
    """
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    is_number = isinstance(value, bool) and bool not in allowed and object not in allowed
    if is_number or not isinstance(value, kinds):
        raise TypeError(f"{name} must be {words}, got {value!r} ({type(value).__name__})")


def check_integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> None:
    """Raise an error for a value that is no integer, or outside ``[low, high]``.

    Raises:
        TypeError: If the value is no integer; True and False are none.
        ValueError: If it is below ``low`` or above ``high``, where these are given.

    >>> check_integer("num_workers", -1, 0)
    Traceback (most recent call last):
    ValueError: num_workers must be at least 0, got -1
    """
    check_type(name, value, Integral, "an integer")
    if low is not None:
        check_at_least(name, value, low)
    if high is not None and value > high:
        raise ValueError(f"{name} must be at most {high}, got {value}")


def check_instance(name: str, value: Any, kind: type) -> None:
    """Raise an error for a value that is not an instance of ``kind``, such as the class itself.

    Raises:
        TypeError: If the value is not an instance.

    >>> check_instance("bins", int, int)
    Traceback (most recent call last):
    TypeError: bins must be an instance of int, got the class int; create an instance: int(...)
    """
    if isinstance(value, kind):
        return
    got = repr(value) if value is None else f"a value of type {type(value).__name__}"
    if isinstance(value, type):
        got = f"the class {value.__name__}; create an instance: {value.__name__}(...)"
    raise TypeError(f"{name} must be an instance of {kind.__name__}, got {got}")

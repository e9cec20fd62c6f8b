"""The tensors that logits are computed from, wherever they are in a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor, nn


def tensors_in(value: Any, *, beside: type | tuple[type, ...] = ()) -> Iterator[Tensor]:
    """Yield the tensors in a logits source, and the parameters and buffers of modules in it.

    Sources may be within others, and modules within functions: a method has its object, a partial
    function its arguments, and a function that is defined within another one its variables.

    Args:
        value: a source, or what is in it.
        beside: types of objects that are left out.

    Example:
        >>> import torch
        >>> from kdlight import Projected
        >>> source = Projected(torch.zeros(2, 4), nn.Linear(4, 5))
        >>> [tuple(tensor.shape) for tensor in tensors_in(source)]
        [(2, 4), (5, 4), (5,)]
    """
    yield from _tensors(value, beside, set())


def _tensors(value: Any, beside: type | tuple[type, ...], seen: set[int]) -> Iterator[Tensor]:
    if id(value) in seen or isinstance(value, beside):
        return
    if isinstance(value, Tensor):
        yield value
        return
    seen.add(id(value))  # a function may refer to itself
    if isinstance(value, nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    for each in _contents(value):
        yield from _tensors(each, beside, seen)


def _contents(value: Any) -> Iterator[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        yield from (getattr(value, each.name) for each in fields(value))
    elif isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (tuple, list)):
        yield from value
    elif isinstance(value, MethodType):
        yield value.__self__
    elif isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not assigned yet
                continue

"""Counts what a loss would ask an accelerator, on CPU tensors that are treated as its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from kdlight import checks

# operations whose result, or its shape, the host needs: it waits until the device has computed it
WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "unique_consecutive",
}
INDEXING = {"index", "index_put", "index_put_"}
# methods that copy to the host without an operation that can be seen on a CPU
READING = {"cpu", "numpy", "tolist"}
# functions that make a tensor of Python numbers: on the host, or copied to a device that they name
COPYING = {"tensor", "as_tensor"}
# those that make one on the host, or on a device that they name
MAKING = COPYING | {"arange", "empty", "full", "ones", "zeros"}


class Questions(TorchDispatchMode):
    """Collects the names of operations that would make the host wait, in ``asked``.

    Tensors that are made of numbers without a device, and what is computed from them alone, are on
    the host. All others are taken for tensors of the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._on_host = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        result = func(*args, **(kwargs or {}))
        if self.is_on_host(args, kwargs):
            self.put_on_host(result)
            return result
        by_mask = name in INDEXING and any(
            each is not None and each.dtype is torch.bool for each in args[1]
        )
        if by_mask or name in WAITING:
            self.asked.append(name)
        return result

    def is_on_host(self, *values: Any) -> bool:
        """Return whether there are tensors among ``values``, and all of them are on the host."""
        tensors = [each for each in tree_leaves(values) if isinstance(each, Tensor)]
        return bool(tensors) and all(each in self._on_host for each in tensors)

    def put_on_host(self, value: Any) -> None:
        """Note that the tensors of ``value`` are on the host."""
        for each in tree_leaves(value):
            if isinstance(each, Tensor):
                self._on_host[each] = True


class _Functions(TorchFunctionMode):
    """Sees what Python code calls, where `Questions` sees operations."""

    def __init__(self, found: Questions) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        is_known = self.found.is_on_host(args[:1])
        result = func(*args, **kwargs)
        if name in READING and not is_known:
            self.found.asked.append(name)
            self.found.put_on_host(result)
        elif name in MAKING and not (args and isinstance(args[0], Tensor)):
            if kwargs.get("device") in (None, "cpu"):  # no device that is that of another tensor
                self.found.put_on_host(result)
            elif name in COPYING:
                self.found.asked.append(name)
        elif name == "to" and is_known and not self.found.is_on_host(args):
            self.found.asked.append(name)  # as another tensor is, which is on the device
        return result


@contextmanager
def questions() -> Iterator[Questions]:
    """Count questions while no tensor can be read without waiting."""
    found = Questions()
    unreadable = mock.patch.object(checks, "_is_on_host", return_value=False)
    with unreadable, found, _Functions(found):
        yield found

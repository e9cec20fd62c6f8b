"""Calls of modules: their arguments and their output, passed on while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from typing_extensions import Self

from kdlight.features.capture import is_paused
from kdlight.features.paths import FeaturePath, find_modules
from kdlight.features.selection import output_feature


class ModuleCall(NamedTuple):
    """One call of a module.

    Attributes:
        path: the path that it was found by.
        args: its positional arguments as they were before the call, detached.
        kwargs: its keyword arguments, likewise.
        output: the tensor that the path stands for, detached.

    Example:
        >>> import torch
        >>> ModuleCall("0", (torch.zeros(4, 2),), {}, torch.zeros(4, 3)).output.shape
        torch.Size([4, 3])
    """

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor


class ModuleCalls:
    """Passes each call of a module to a function, right after it, within a ``with`` block.

    The function may run another module on the same arguments. Nothing is kept after it returns, so
    the memory does not grow with the number of modules. Floating-point arguments are copied before
    the call: neither module can change those of the other, nor the network's, in place. Caches of
    keys and values, as language models pass them for generation, are replaced by None: a second
    module would add to them.

    Args:
        network: a network that is not compiled.
        paths: modules, or outputs of them, see `kdlight.features.FeaturePath`.
        observe: a function of a `ModuleCall`.

    Raises:
        ValueError: a path is that of an input, leads to no module, or the network is compiled. At
            the end of the block: a module did not run. At its second call: a module runs twice.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True))
        >>> with ModuleCalls(network, ["1"], lambda call: print(call.args[0].shape)):
        ...     _ = network(torch.zeros(4, 2))
        torch.Size([4, 3])
    """

    def __init__(
        self, network: nn.Module, paths: Iterable[str], observe: Callable[[ModuleCall], None]
    ) -> None:
        self._network = type(network).__name__
        self._modules = find_modules(network, map(_of_output, paths))
        self._observe = observe
        self._arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._seen: set[str] = set()
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        """Add the hooks."""
        for path, module in self._modules.items():
            before, after = self._hooks(path)
            self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            self._handles.append(module.register_forward_hook(after, with_kwargs=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Remove the hooks, and check that all modules ran unless there was an error."""
        while self._handles:
            self._handles.pop().remove()
        self._arguments.clear()
        missing = [path for path in self._modules if path not in self._seen]
        if kind is None and missing:
            raise ValueError(
                f"the module {missing[0]!r} of {self._network} did not run in the forward pass (the"
                " output head of a kdlight.CausalLM, for example, is applied later); choose another"
            )

    def _hooks(self, path: str) -> tuple[Callable[..., None], Callable[..., None]]:
        parsed = FeaturePath.parse(path)

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if is_paused():
                return
            if path in self._seen:
                raise ValueError(
                    f"the module {path!r} of {self._network} runs several times in one forward"
                    " pass; choose modules that run once"
                )
            self._seen.add(path)
            self._arguments[path] = _copied(args), _copied(kwargs)

        def after(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if not is_paused():
                copied = self._arguments.pop(path)
                tensor = output_feature(path, parsed, output)
                self._observe(ModuleCall(path, *copied, tensor.detach()))

        return before, after


def _of_output(path: str) -> str:
    if FeaturePath.parse(path).side == "input":
        raise ValueError(
            f"the path {path!r} is that of an input; name the module, or an output of it"
        )
    return path


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        # integers and booleans are positions and masks, which no module writes to
        return value.detach().clone() if value.is_floating_point() else value
    if type(value) in (list, tuple):
        return type(value)(_copied(each) for each in value)
    if isinstance(value, tuple) and hasattr(value, "_make"):  # a named tuple
        return type(value)._make(map(_copied, value))  # type: ignore[attr-defined]
    if type(value) is dict:
        return {key: _copied(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, (type, Mapping)):
        copied = copy(value)
        for field in fields(value):
            object.__setattr__(copied, field.name, _copied(getattr(value, field.name)))
        return copied
    return None if hasattr(value, "get_seq_length") else value

"""Capture features of a network while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from torch import Tensor, nn
from typing_extensions import Self

from kdlight.features.paths import FeaturePath, find_modules
from kdlight.features.selection import input_feature, output_feature

_PAUSED: ContextVar[bool] = ContextVar("paused", default=False)


class _Seen(NamedTuple):
    tensor: Tensor
    version: int | None
    calls: int


class Capture(Mapping[str, Tensor]):
    """The features of the forward pass of a network within a ``with`` block, by path.

    Forward hooks are there only within the block. So nothing is recorded twice when gradient
    checkpointing repeats a forward pass in the backward pass, and nothing is left behind after an
    error. The tensors have the graph of the forward pass; they are freed with this object.

    Args:
        network: a network that is not compiled.
        paths: see `FeaturePath`. Of a tuple or a mapping, the first tensor is the feature.

    Attributes:
        modules: the modules by path.

    Raises:
        ValueError: a path leads to no module, or the network is compiled. On reading a feature: its
            module did not run, ran several times, or its output was changed in place afterwards.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with Capture(network, ["0", "1:input"]) as features:
        ...     _ = network(torch.zeros(4, 2))
        >>> features["0"].shape, features["0"] is features["1:input"]
        (torch.Size([4, 3]), True)
    """

    def __init__(self, network: nn.Module, paths: Iterable[str]) -> None:
        self._network = type(network).__name__
        self.modules = find_modules(network, paths)
        self._seen: dict[str, _Seen] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        """Add the hooks."""
        for path, module in self.modules.items():
            hook = _Hook(path, FeaturePath.parse(path), self._seen)
            if hook.parsed.side == "input":  # before the module can change it in place
                handle = module.register_forward_pre_hook(hook.on_input, with_kwargs=True)
            else:
                handle = module.register_forward_hook(hook.on_output)
            self._handles.append(handle)
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the hooks."""
        while self._handles:
            self._handles.pop().remove()

    def __getitem__(self, path: str) -> Tensor:
        """Return a feature."""
        if path not in self.modules:
            raise KeyError(path)
        if path not in self._seen:
            raise ValueError(
                f"the feature {path!r} was not captured: this module of {self._network} did not run"
                " in the forward pass (the output head of a kdlight.CausalLM, for example, is"
                " applied later); choose another path"
            )
        tensor, version, calls = self._seen[path]
        if calls > 1:
            raise ValueError(
                f"the feature {path!r} is ambiguous: this module of {self._network} ran {calls}"
                " times in one forward pass; choose the path of a module that runs once"
            )
        if _version(tensor) != version:
            raise ValueError(
                f"the feature {path!r} was changed in place after it was captured, as"
                " ReLU(inplace=True) does; use the path of the module that changes it, or"
                " inplace=False"
            )
        return tensor

    def __iter__(self) -> Iterator[str]:
        """Iterate over the paths."""
        return iter(self.modules)

    def __len__(self) -> int:
        """Return the number of paths."""
        return len(self.modules)


@contextmanager
def not_captured() -> Iterator[None]:
    """Let a network run without being captured, such as for a comparison.

    Example:
        >>> import torch
        >>> network = nn.Linear(2, 3)
        >>> with Capture(network, [""]) as features:
        ...     _ = network(torch.zeros(1, 2))
        ...     with not_captured():
        ...         _ = network(torch.zeros(5, 2))
        >>> features[""].shape
        torch.Size([1, 3])
    """
    token = _PAUSED.set(True)
    try:
        yield
    finally:
        _PAUSED.reset(token)


def is_paused() -> bool:
    """Return whether a network runs in `not_captured`.

    Example:
        >>> with not_captured():
        ...     is_paused()
        True
    """
    return _PAUSED.get()


class _Hook:
    def __init__(self, path: str, parsed: FeaturePath, seen: dict[str, _Seen]) -> None:
        self.path, self.parsed, self.seen = path, parsed, seen

    def on_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._record(lambda: input_feature(self.path, self.parsed, args, kwargs))

    def on_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._record(lambda: output_feature(self.path, self.parsed, output))

    def _record(self, feature: Callable[[], Tensor]) -> None:
        if is_paused():
            return
        if self.path in self.seen:
            first = self.seen[self.path]
            self.seen[self.path] = first._replace(calls=first.calls + 1)
            return
        tensor = feature()
        if not tensor.is_floating_point():
            raise ValueError(
                f"the feature {self.path!r} must be of a floating-point dtype, got {tensor.dtype}"
            )
        if tensor.is_inference():  # whose changes in place are not counted
            tensor = tensor.clone()
        self.seen[self.path] = _Seen(tensor, _version(tensor), 1)


def _version(tensor: Tensor) -> int | None:
    """Return how often a tensor was changed in place; an inference tensor does not count."""
    return None if tensor.is_inference() else tensor._version

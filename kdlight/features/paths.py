"""Paths of features: the name of a module, and which of its inputs or outputs is meant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal, NamedTuple

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

WRAPPED = "_checkpoint_wrapped_module"
"""What ``torch.distributed``'s activation checkpointing adds to the names of modules."""


class FeaturePath(NamedTuple):
    """A module, and the input or output of it that is a feature.

    Written ``MODULE``, ``MODULE:output``, ``MODULE:output.KEY``, ``MODULE:input`` or
    ``MODULE:input.KEY``. The key is the name of a keyword argument or of an entry of the output, or
    a position in a tuple.

    Attributes:
        module: the name of the module, as in ``named_modules``.
        side: ``"input"`` or ``"output"``.
        key: which input or output it is; empty for the first tensor.

    Example:
        >>> FeaturePath.parse("model.layers.3:input.hidden_states")
        FeaturePath(module='model.layers.3', side='input', key='hidden_states')
    """

    module: str
    side: Literal["input", "output"] = "output"
    key: str = ""

    @classmethod
    def parse(cls, path: str) -> FeaturePath:
        """Read a path.

        Raises:
            TypeError: ``path`` is not a string.
            ValueError: what follows the colon is neither an input nor an output.
        """
        if not isinstance(path, str):
            raise TypeError(
                f"a path of a feature must be the name of a module, such as 'model.layers.3', got"
                f" {path!r}"
            )
        module, colon, rest = path.partition(":")
        side, _, key = rest.partition(".")
        if not colon:
            return cls(module)
        if side == "input":
            return cls(module, "input", key)
        if side == "output":
            return cls(module, "output", key)
        raise ValueError(
            f"the path {path!r} must end in ':input', ':output', or one of these with '.' and a key"
            " (a name, or a position in a tuple)"
        )


def find_module(network: nn.Module, path: str) -> nn.Module:
    """Return the module that a path leads to.

    Leading parts of its name may be left out if only one module remains: ``layers.0`` of a model in
    a wrapper, with adapters or without.

    Args:
        network: the network.
        path: see `FeaturePath`.

    Raises:
        ValueError: no module, or more than one, has that name; the message lists similar names. Or
            the network is compiled.

    Example:
        >>> network = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
        >>> find_module(network, "0.1:input")
        ReLU()
        >>> find_module(network, "0.7")
        Traceback (most recent call last):
        ValueError: no module of Sequential is called '0.7'; similar names: '0.1', '0.0', '0'. ...
    """
    return find_modules(network, [path])[path]


def find_modules(network: nn.Module, paths: Iterable[str]) -> dict[str, nn.Module]:
    """Return the modules that paths lead to, by path, with one look at the network for all.

    Raises:
        ValueError: see `find_module`.

    Example:
        >>> find_modules(nn.Sequential(nn.ReLU(), nn.Tanh()), ["0", "1:input"])
        {'0': ReLU(), '1:input': Tanh()}
    """
    paths = list(paths)
    names = [FeaturePath.parse(path).module for path in paths]
    modules = modules_by_name(network)
    if paths:
        _check_not_compiled(network, paths[0])
    return {
        path: modules[name] if name in modules else _module_that_ends(network, modules, name)
        for path, name in zip(paths, names, strict=True)
    }


def _module_that_ends(network: nn.Module, modules: dict[str, nn.Module], name: str) -> nn.Module:
    ends = {each for each in modules if each.endswith(f".{name}")}
    found = {id(modules[each]): each for each in sorted(ends, reverse=True)}
    if len(found) == 1 and name:
        return modules[next(iter(found.values()))]
    if len(found) > 1:
        names = ", ".join(repr(each) for each in sorted(found.values())[:5])
        raise ValueError(
            f"{len(found)} modules of {type(network).__name__} have names that end in {name!r}:"
            f" {names}; write out one of them"
        )
    similar = _similar(name, list(modules))
    raise ValueError(
        f"no module of {type(network).__name__} is called {name!r}; {similar}."
        " `kdlight doctor --paths` lists all names"
    )


def modules_by_name(network: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a network by name; of a module and its wrapper, the wrapper.

    A module with an attribute ``has_features`` that is False, such as an objective with networks of
    its own, is left out, and so is what computes parametrized weights.

    Example:
        >>> sorted(modules_by_name(nn.Sequential(nn.ReLU())))
        ['', '0']
    """
    modules: dict[str, nn.Module] = {}
    left_out: tuple[str, ...] = ()
    for name, module in network.named_modules(remove_duplicate=False):
        if f"{name}.".startswith(left_out):  # never, of an empty tuple
            continue
        if name and not getattr(module, "has_features", True):
            left_out += (f"{name}.",)
            continue
        if is_parametrized(module):
            left_out += (f"{name}.parametrizations.".removeprefix("."),)
        parts = [part for part in name.split(".") if part != WRAPPED]
        modules.setdefault(".".join(parts), module)
    return modules


def _check_not_compiled(network: nn.Module, path: str) -> None:
    for module in network.modules():
        is_compiled = getattr(module, "_compiled_call_impl", None) is not None
        by_lightning = getattr(module, "_compiler_ctx", None) is not None
        if is_compiled or by_lightning or hasattr(module, "_orig_mod"):
            raise ValueError(
                f"the feature {path!r} cannot be captured: {type(module).__name__} is compiled, and"
                " torch.compile leaves out what is captured inside of it; use the network without"
                " torch.compile"
            )


def _similar(name: str, names: list[str]) -> str:
    """List names that are written like ``name``, wherever they are in the network."""
    by_end: dict[str, list[str]] = defaultdict(list)
    parts = name.count(".") + 1
    for each in names:
        by_end[".".join(each.split(".")[-parts:])].append(each)
    close = [each for end in get_close_matches(name, by_end, 5, 0.5) for each in by_end[end]]
    listed = ", ".join(map(repr, close[:5] or [each for each in names if each][:5]))
    more = ", ..." if len([each for each in names if each]) > 5 else ""
    return f"similar names: {listed}" if close else f"its modules are: {listed}{more}"

"""A sequential network, cut into modules and assembled again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from kdlight.checks import check_integer
from kdlight.models.hybrid import Hybrid


def cut_modules(network: nn.Sequential, parts: int | Sequence[str]) -> list[nn.Sequential]:
    """Cut a sequential network into modules that run one after the other.

    The modules consist of the layers of ``network`` themselves, not of copies, under their names in
    ``network``: to train a module is to train that part of the network. ``assemble(modules)``
    returns the same logits as ``network``, to the bit.

    Other networks, such as the models of transformers, compute more between their layers than a
    sequence does: masks, positions, skip connections. Write such a network as a
    `torch.nn.Sequential` of modules first.

    Args:
        network: a `torch.nn.Sequential` without hooks of its own, or a class derived from it that
            does not change ``forward``.
        parts: the number of modules, to which the layers of ``network`` are distributed evenly, the
            first ones getting one more; or the paths of the layers with which the second and all
            further modules begin, in order. A path can lead into a `torch.nn.Sequential` within:
            ``["blocks.2", "head"]``.

    Raises:
        TypeError: If ``network`` is not sequential, or ``parts`` is neither a number nor paths.
        ValueError: If there are fewer layers than modules, or a path leads to no layer or is out of
            order.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3))
        >>> [len(module) for module in cut_modules(network, 2)]
        [2, 2]
        >>> [len(module) for module in cut_modules(network, ["2", "3"])]
        [2, 1, 1]
    """
    if not _is_sequential(network):
        raise TypeError(
            "network must be an nn.Sequential that runs its layers one after the other, without"
            f" hooks, got a {type(network).__name__}; write it as an nn.Sequential of modules"
        )
    if isinstance(parts, str) or not isinstance(parts, (int, Sequence)) or isinstance(parts, bool):
        raise TypeError(
            f"parts must be a number of modules or the paths of first layers, got {parts!r}"
        )
    if isinstance(parts, int):
        layers = list(network._modules.items())
        check_integer("parts", parts, 1)
        if parts > len(layers):
            raise ValueError(
                f"parts must be at most {len(layers)}, the number of layers of network, got"
                f" {parts}; to cut within a layer, give the paths of first layers"
            )
        size, rest = divmod(len(layers), parts)
        starts = [number * size + min(number, rest) for number in range(parts)]
    else:
        layers = list(_layers(network, "", list(parts)))
        starts = [0, *_starts([name for name, _ in layers], list(parts))]
    ends = [*starts[1:], len(layers)]
    return [_module(layers[start:end]) for start, end in zip(starts, ends, strict=True)]


def assemble(modules: Iterable[nn.Module], *, stitches: bool = False) -> nn.Sequential:
    """Make one network of modules that run one after the other.

    A `kdlight.models.Hybrid` stands for the module that was trained in it; hybrids must be in the
    order of their places, and all of them must be there.

    Args:
        modules: modules or hybrids; they are not copied.
        stitches: include the stitches of hybrids. They lead to the widths of the meta network, so
            they are needed where neighbouring modules do not have the same width. False leaves them
            out.

    Raises:
        TypeError: If an entry of ``modules`` is no module.
        ValueError: If there is none, or hybrids are missing or out of order.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> x = torch.randn(2, 4)
        >>> torch.equal(assemble(cut_modules(network, 3))(x), network(x))
        True
    """
    found = list(modules)
    if not found:
        raise ValueError("modules must have at least one module, got none")
    for each in found:
        if not isinstance(each, nn.Module):
            raise TypeError(f"modules must be torch.nn.Modules, got {type(each).__name__}")
    hybrids = [each for each in found if isinstance(each, Hybrid)]
    places = [each.index for each in hybrids]
    if hybrids and (len(hybrids) < len(found) or not _are_complete(hybrids)):
        raise ValueError(
            f"modules must be the hybrids of all places of a meta network in order, got places"
            f" {places} among {len(found)} modules; give hybrid.module for any other combination"
        )
    return nn.Sequential(*(_trained(each, stitches) for each in found))


def _are_complete(hybrids: list[Hybrid]) -> bool:
    sizes = {len(each.before) + 1 + len(each.after) for each in hybrids}
    return sizes == {len(hybrids)} and [h.index for h in hybrids] == list(range(len(hybrids)))


def _trained(module: nn.Module, stitches: bool) -> nn.Module:
    if not isinstance(module, Hybrid):
        return module
    parts = (module.stitch_in, module.module, module.stitch_out)
    kept = [each for each in parts if each is not None]
    return nn.Sequential(*kept) if stitches and len(kept) > 1 else module.module


def _is_sequential(module: Any) -> bool:
    is_plain = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    return is_plain and not (module._forward_hooks or module._forward_pre_hooks)


def _layers(network: nn.Sequential, prefix: str, paths: list[str]) -> Iterator[Any]:
    """Yield the layers by path, from within those that a path leads into."""
    for name, child in network._modules.items():  # named_children() leaves out repeated layers
        path = f"{prefix}{name}"
        is_cut = any(each.startswith(f"{path}.") for each in paths)
        if is_cut and _is_sequential(child):
            yield from _layers(child, f"{path}.", paths)  # type: ignore[arg-type]
        else:
            yield path, child


def _starts(names: list[str], paths: list[str]) -> list[int]:
    known = {name: place for place, name in enumerate(names)}
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise ValueError(
            f"parts has {unknown}, which are no layers that run one after the other; they are"
            f" {names}"
        )
    starts = [known[path] for path in paths]
    if starts != sorted(set(starts)) or 0 in starts:
        raise ValueError(
            f"parts must name the first layers of the second and all further modules, in order, got"
            f" {paths} of {names}"
        )
    return starts


def _module(layers: list[tuple[str, nn.Module]]) -> nn.Sequential:
    """Return a module of layers named by the ends of their paths, or by numbers if two agree."""
    names = [path.rpartition(".")[2] for path, _ in layers]
    if len(set(names)) < len(names):
        names = [str(place) for place in range(len(layers))]
    module = nn.Sequential()
    for name, (_, layer) in zip(names, layers, strict=True):
        module.add_module(name, layer)
    return module

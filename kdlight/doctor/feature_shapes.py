"""The paths and shapes of the features of networks, as a forward pass shows them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import nn

from kdlight.features.paths import modules_by_name
from kdlight.features.selection import tensors_in


class FeatureRow(NamedTuple):
    """A path, or several that differ in one number, and the output of the module there.

    Attributes:
        path: the path, with ``*`` for the numbers of equal layers.
        kind: the class of the module.
        shape: the shape of its output.
        count: number of modules.
    """

    path: str
    kind: str
    shape: tuple[int, ...]
    count: int = 1

    def __str__(self) -> str:
        """Return the row as a line of a table."""
        several = f"  x {self.count}" if self.count > 1 else ""
        return f"  {self.path:<52} {self.kind:<24} {self.shape}{several}"


@contextmanager
def recorded_features(networks: Mapping[str, nn.Module]) -> Iterator[dict[str, list[FeatureRow]]]:
    """Record the shapes of the outputs of all modules that run within the block.

    Args:
        networks: networks by name.

    Returns:
        A dict that has the rows of each network at the end of the block.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 3))
        >>> with recorded_features({"student": network}) as rows:
        ...     _ = network(torch.zeros(4, 2))
        >>> [(row.path, row.shape, row.count) for row in rows["student"]]
        [('*', (4, 3), 3)]
    """
    rows: dict[str, list[FeatureRow]] = {}
    seen: dict[str, dict[str, FeatureRow]] = {name: {} for name in networks}
    handles = []
    for name, network in networks.items():
        for path, module in modules_by_name(network).items():
            if path:
                hook = _recorder(path, seen[name])
                handles.append(module.register_forward_hook(hook))
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()
        rows |= {name: _grouped(each) for name, each in seen.items()}


def _recorder(path: str, seen: dict[str, FeatureRow]) -> Any:
    def record(module: nn.Module, args: Any, output: Any) -> None:
        tensor = next(tensors_in(output), None)
        # a nested tensor has no shape, and is refused as a feature
        if tensor is not None and tensor.is_floating_point() and not tensor.is_nested:
            seen.setdefault(path, FeatureRow(path, type(module).__name__, tuple(tensor.shape)))

    return record


def _grouped(rows: Mapping[str, FeatureRow]) -> list[FeatureRow]:
    """Unite the rows of layers that differ in their number only, in the order of the network."""
    groups: dict[Any, list[FeatureRow]] = {}
    for row in rows.values():
        pattern = re.sub(r"(?<![^.])\d+(?![^.])", "*", row.path, count=1)
        groups.setdefault((pattern, row.kind, row.shape), []).append(row)
    return [
        rows[0] if len(rows) == 1 else rows[0]._replace(path=pattern, count=len(rows))
        for (pattern, _, _), rows in groups.items()
    ]

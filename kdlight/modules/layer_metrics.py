"""The metrics of layer-wise distillation: those of the logits, and the loss of each pair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from kdlight.metrics import DistillationMetrics
from kdlight.metrics.precision import Mean


class LayerwiseMetrics(DistillationMetrics):
    """`kdlight.metrics.DistillationMetrics`, and the loss of each pair of modules.

    Args:
        paths: the paths of the student's modules.
        temperature: see `kdlight.metrics.DistillationMetrics`.

    Example:
        >>> import torch
        >>> metrics = LayerwiseMetrics(["layers.0"])
        >>> metrics.update_modules({"layers.0": torch.tensor(6.0)}, torch.tensor(4))
        >>> metrics.compute()
        {'modules/layers.0': tensor(1.5000)}
    """

    def __init__(self, paths: Iterable[str], temperature: float = 1.0) -> None:
        super().__init__(temperature)
        self.keys = {path: f"module_{number}" for number, path in enumerate(paths)}
        self.metrics.update({key: Mean() for key in self.keys.values()})

    def update_modules(self, totals: Mapping[str, Tensor], count: Tensor) -> None:
        """Add the sum of each module's loss over ``count`` positions."""
        if count > 0:
            for path, total in totals.items():
                mean = total.detach() / count
                self._update(self.keys[path], mean.expand(int(count)))

    def compute(self) -> dict[str, Tensor]:
        """Return all metrics that have data, by name, reduced over ranks."""
        names = {key: f"modules/{path}" for path, key in self.keys.items()}
        return {names.get(key, key): value for key, value in super().compute().items()}

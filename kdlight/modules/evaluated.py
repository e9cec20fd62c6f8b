"""Validation and testing: metrics of every batch, logged once an epoch."""

from __future__ import annotations

from typing import Any

from kdlight.metrics import DistillationMetrics
from kdlight.modules.accounted import AccountedModule
from kdlight.modules.batches import check_evaluation_batches


class EvaluatedModule(AccountedModule):
    """An `AccountedModule` that measures its student on held-out batches.

    Attributes:
        metrics: what is measured, logged as ``val/...`` and ``test/...``.
    """

    metrics: DistillationMetrics

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Update the metrics."""
        step = self.step(batch)
        self.metrics.update(step, self.objective(step))

    def on_validation_start(self) -> None:
        """Ranks that gather weights together need as many batches."""
        check_evaluation_batches(self.trainer)

    test_step = validation_step
    on_test_start = on_validation_start

    def on_validation_epoch_end(self) -> None:
        """Log the metrics as ``val/...``."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics as ``test/...``."""
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        values = self.metrics.compute()
        self.metrics.reset()
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, sync_dist=True)

"""The accuracy of estimated pitches."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from kdlight.callbacks.module_check import check_module
from kdlight.checks import check_positive
from kdlight.losses.labels import IGNORE_INDEX
from kdlight.models.crepe import estimated_cents, frequency_to_cents
from kdlight.modules.base import DistillationBase
from kdlight.sources import as_source


class PitchAccuracy(Callback):
    """Logs ``val/pitch_accuracy``, the share of validation frames whose pitch is estimated well.

    The pitch of a frame is estimated from the 360 logits of a `kdlight.models.crepe.Crepe` in a
    `kdlight.MultiLabel`. It is right if it is within 50 cents, half a semitone, of the ``pitch``
    of the batch in Hz, as `kdlight.data.TonesDataModule` gives it. The accuracy of the 360 single
    answers, ``val/accuracy``, says little, since most of them are no. Ignored frames do not count.

    Args:
        tolerance: largest error of a pitch that is right, in cents, above 0.

    Raises:
        ValueError: If the tolerance is not above 0, or a batch has no ``pitch``.

    Kim et al., "CREPE: A Convolutional Representation for Pitch Estimation", 2018, section 3.2 (raw
    pitch accuracy).

    Example:
        >>> PitchAccuracy(tolerance=25.0).tolerance
        25.0
    """

    def __init__(self, tolerance: float = 50.0) -> None:
        check_positive("tolerance", tolerance)
        self.tolerance = tolerance

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the module."""
        check_module("PitchAccuracy", pl_module)

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Estimate the pitches of a batch."""
        assert isinstance(pl_module, DistillationBase)
        if not isinstance(batch, dict) or "pitch" not in batch:
            raise ValueError("PitchAccuracy needs a batch with 'pitch' in Hz, (B,)")
        # the second axis of answers: no, yes
        answers = as_source(pl_module.student_logits(batch)).logits().double()  # (B, 360, 2)
        error = estimated_cents(answers[..., 1] - answers[..., 0])
        error = (error - frequency_to_cents(batch["pitch"].double())).abs()
        if "labels" in batch:  # all -100 in frames that even out the ranks
            error = error[(batch["labels"] != IGNORE_INDEX).any(-1)]
        right = (error <= self.tolerance).double()
        pl_module.log(
            "val/pitch_accuracy",
            right.mean() if len(right) else right.sum(),
            batch_size=len(right),
            on_epoch=True,
            sync_dist=True,
        )

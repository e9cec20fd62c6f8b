"""Callbacks that monitor a metric which improves while a model collapses."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from kdlight.callbacks import REDIGuard
from kdlight.objectives import REDI
from tests.callbacks.test_redi_guard import fit


@pytest.mark.parametrize("monitor", ["train/loss", "val/loss", "train/margin"])
def test_monitoring_the_loss_or_the_margin_is_warned_of(monitor: str, tmp_path: Path) -> None:
    stopping = EarlyStopping(monitor, mode="max", strict=False)
    with pytest.warns(UserWarning, match=rf"EarlyStopping monitors '{monitor}'"):
        fit(tmp_path, REDIGuard(), REDI(), callbacks=[stopping], max_epochs=1)
    fit(  # no warning, which would be an error
        tmp_path,
        REDIGuard(),
        REDI(),
        callbacks=[ModelCheckpoint(tmp_path, monitor="train/chosen_log_prob", mode="max")],
        enable_checkpointing=True,
        max_epochs=1,
    )

"""The report of a run: evaluated before and after training, without an effect on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.callbacks import AdaptiveTAID, DistillationReport
from kdlight.callbacks.report import drawing
from kdlight.objectives import TAID, ForwardKL
from tests.support import toy


def test_report_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, module = DistillationReport(), toy.module(TAID())
    run = toy.trainer(tmp_path, max_epochs=2, callbacks=[AdaptiveTAID(alpha=0.1), report])
    run.fit(module, toy.loader(8), toy.loader(8, seed=1))
    assert report.before is not None
    assert report.after is not None
    assert report.after.student["forward_kl"] < report.before["forward_kl"]
    assert report.after.unit == "token"
    # by the callback, and by the validation of the last epoch
    logged = run.callback_metrics["val/forward_kl"].item()
    assert report.after.student["forward_kl"] == pytest.approx(logged, rel=1e-6)
    assert [step for step, _ in report.history["loss"]] == list(range(1, 9))
    assert [step for step, _ in report.history["forward_kl"]] == [0, 4, 8]
    assert report.history["t"][-1][1] == module.objective.t  # type: ignore[comparison-overlap]
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"
    written = (tmp_path / "report.md").read_text()
    assert r"KL(teacher \|\| student)" in written
    assert "student before" in capsys.readouterr().out


def test_the_report_does_not_change_the_training(tmp_path: Path) -> None:
    def weights(*callbacks: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        module = toy.module(ForwardKL())
        shuffled = torch.utils.data.DataLoader(
            toy.Ragged(), batch_size=8, shuffle=True, collate_fn=toy.pad
        )
        toy.trainer(tmp_path, max_epochs=2, callbacks=list(callbacks)).fit(
            module, shuffled, toy.loader(8, seed=1)
        )
        return module.student.state_dict()

    without, reported = weights(), weights(DistillationReport())
    for name in without:
        torch.testing.assert_close(without[name], reported[name], rtol=0, atol=0)


def test_the_report_of_a_resumed_run_covers_the_whole_run(tmp_path: Path) -> None:
    first = DistillationReport()
    run = toy.trainer(tmp_path, callbacks=[first], max_epochs=1)
    run.fit(toy.module(), toy.loader(8), toy.loader(8, seed=1))
    run.save_checkpoint(tmp_path / "half.ckpt")
    resumed = DistillationReport()
    run = toy.trainer(tmp_path, max_epochs=2, callbacks=[resumed])
    run.fit(
        toy.module(), toy.loader(8), toy.loader(8, seed=1), ckpt_path=str(tmp_path / "half.ckpt")
    )
    assert resumed.before == first.before
    assert [step for step, _ in resumed.history["loss"]] == list(range(1, 9))


def test_limit_val_batches_is_respected(tmp_path: Path) -> None:
    all_batches, one_batch = DistillationReport(), DistillationReport()
    for report, limit in ((all_batches, 1.0), (one_batch, 1)):
        run = toy.trainer(tmp_path, callbacks=[report], max_epochs=1, limit_val_batches=limit)
        run.fit(toy.module(), toy.loader(8), toy.loader(8, seed=1))
    assert all_batches.before != one_batch.before


def test_a_run_without_validation_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no validation data to report on"):
        toy.trainer(tmp_path, callbacks=[DistillationReport()]).fit(toy.module(), toy.loader(8))


def test_without_matplotlib_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install kdlight\[report\]"):
        toy.trainer(tmp_path, callbacks=[DistillationReport()]).fit(toy.module(), toy.loader(8))

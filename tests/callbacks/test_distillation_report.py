"""The report of a run: measured before and after, drawn, and without a trace in the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.callbacks import AdaptiveTAID, GenerationSamples, Report, TrainTeacherFirst, drawing
from kdlight.callbacks.distillation_report import render
from kdlight.objectives import TAID, ForwardKL
from tests.support import toy


def test_report_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, module = Report(), toy.module(TAID())
    run = toy.trainer(tmp_path, max_epochs=2, callbacks=[AdaptiveTAID(alpha=0.1), report])
    run.fit(module, toy.loader(8), toy.loader(8, seed=1))
    assert report.before is not None
    assert report.after is not None
    assert report.after.student["forward_kl"] < report.before["forward_kl"]
    assert report.after.unit == "token"
    # measured by itself, and by the validation of the last epoch
    logged = run.callback_metrics["val/forward_kl"].item()
    assert report.after.student["forward_kl"] == pytest.approx(logged, rel=1e-6)
    assert [step for step, _ in report.history["loss"]] == list(range(1, 9))
    assert [step for step, _ in report.history["forward_kl"]] == [0, 4, 8]
    assert report.history["t"][-1][1] == module.objective.t  # type: ignore[comparison-overlap]
    assert (tmp_path / "report.png").read_bytes()[:4] == b"\x89PNG"
    written = (tmp_path / "report.md").read_text()
    assert r"KL(teacher \|\| student)" in written
    assert "student before" in capsys.readouterr().out


def test_the_report_leaves_no_trace_in_the_training(tmp_path: Path) -> None:
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

    alone, watched = weights(), weights(Report())
    for name in alone:
        torch.testing.assert_close(alone[name], watched[name], rtol=0, atol=0)


def test_a_resumed_report_is_of_the_whole_run(tmp_path: Path) -> None:
    first = Report()
    run = toy.trainer(tmp_path, callbacks=[first], max_epochs=1)
    run.fit(toy.module(), toy.loader(8), toy.loader(8, seed=1))
    run.save_checkpoint(tmp_path / "half.ckpt")
    again = Report()
    run = toy.trainer(tmp_path, max_epochs=2, callbacks=[again])
    run.fit(
        toy.module(), toy.loader(8), toy.loader(8, seed=1), ckpt_path=str(tmp_path / "half.ckpt")
    )
    assert again.before == first.before
    assert [step for step, _ in again.history["loss"]] == list(range(1, 9))


def test_limits_of_the_trainer_hold(tmp_path: Path) -> None:
    wide, narrow = Report(), Report()
    for report, limit in ((wide, 1.0), (narrow, 1)):
        run = toy.trainer(tmp_path, callbacks=[report], max_epochs=1, limit_val_batches=limit)
        run.fit(toy.module(), toy.loader(8), toy.loader(8, seed=1))
    assert wide.before != narrow.before


def test_without_validation_data_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no validation data to report on"):
        toy.trainer(tmp_path, callbacks=[Report()]).fit(toy.module(), toy.loader(8))


def test_without_matplotlib_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install kdlight\[report\]"):
        toy.trainer(tmp_path, callbacks=[Report()]).fit(toy.module(), toy.loader(8))


def test_the_table_names_the_temperature() -> None:
    table = render({"student": {"forward_kl": 1.0}}, temperature=4.0)
    assert table.startswith("| held out (KL at temperature 4) |")


def test_continuations_need_what_generates(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a student that generates text, and ToyLM does not"):
        toy.trainer(tmp_path, callbacks=[GenerationSamples()]).fit(toy.module(), toy.loader(8))


@pytest.mark.parametrize(
    ("options", "message"), [({"epochs": 0}, "epochs .* got 0"), ({"lr": 0.0}, "lr .* got 0.0")]
)
def test_teacher_first_checks_its_numbers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainTeacherFirst(**options)


def test_teacher_first_needs_a_datamodule(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="takes its data from a LightningDataModule"):
        toy.trainer(tmp_path, callbacks=[TrainTeacherFirst()]).fit(toy.module(), toy.loader(8))

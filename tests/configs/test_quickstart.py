"""A step of the main example on the real teacher: all its outputs exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdlight.cli import main

CONFIG = str(Path(__file__).parents[2] / "configs" / "quickstart.yaml")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_step_of_the_main_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)
    args = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--data.eval_batch_size=1"]
    main(["fit", "--config", CONFIG, *args])
    (run,) = (tmp_path / "lightning_logs").iterdir()
    assert {"config.yaml", "metrics.csv", "report.md", "report.png", "student"} <= {
        path.name for path in run.iterdir()
    }
    printed = capsys.readouterr().out
    for word in ("student before", "student after", "teacher", "top-1 agreement", "ECE"):
        assert word in printed
    assert printed.count("  before") == printed.count("  after") == 2
    assert "AdaptiveTAID" in (run / "config.yaml").read_text()

"""Select2Reason from traces to a student: a judge scores them, and a fit uses a tenth of them."""

from __future__ import annotations

import csv
import logging
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import kdlight.configs
from kdlight.cli import main
from kdlight.cli.config_files import read_config
from kdlight.data import TracesDataModule, read_traces
from kdlight.data.traces import Trace, joint_rank, write_traces
from tests.data.traces.scoring.judges import differing_judge
from tests.support import tiny_lm

CONFIG = Path(kdlight.configs.__path__[0], "select2reason.yaml")


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Traces that the command has scored, in the folder of the config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])
    differing_judge().save_pretrained("judge")
    tiny_lm.tokenizer().save_pretrained("judge")
    traces = [
        Trace(f"{i * i} + {i} =", f"{'so ' * (i * 7 % 11)}{i * i + i}", score=1) for i in range(100)
    ]
    write_traces("traces/positives.jsonl", traces)
    main(
        [
            *("traces", "score", "--files=traces/positives.jsonl", "--output=traces/judged.jsonl"),
            *("--difficulty=judge", "--model=judge", "--instruction=1 or 0?"),
        ]
    )
    return Path("traces/judged.jsonl")


def test_the_judge_makes_a_difference_and_a_tenth_is_kept(judged: Path) -> None:
    traces = read_traces(str(judged))
    found = [trace.difficulty for trace in traces if trace.difficulty is not None]
    assert len(found) == 100
    assert len(set(found)) > 20
    select = read_config(CONFIG)["data"]["init_args"]["select"]
    data = TracesDataModule(
        tiny_lm.tokenizer(), str(judged), select=select, validation_fraction=0.0
    )
    data.setup()
    kept = joint_rank(traces, weight=0.5, keep=0.1)
    assert len(kept) == len(data.train_rows) == 10
    assert {tuple(data.train_rows[i]["input_ids"][0].tolist()) for i in range(10)} == {
        tuple(tiny_lm.tokenizer()(f"{trace.prompt}{trace.response}<end>")["input_ids"])
        for trace in kept
    }
    hard = sorted(found)[50]
    assert sum(trace.difficulty is not None and trace.difficulty >= hard for trace in kept) >= 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised within Lightning
def test_a_fit_uses_what_the_judge_scored(
    judged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tiny_lm.save(tmp_path / "model")
    with caplog.at_level(logging.INFO):
        main(
            [
                "fit",
                f"--config={CONFIG}",
                f"--model.init_args.student.init_args.source={source}",
                "--data.init_args.batch_size=1",
                "--data.init_args.validation_fraction=0.2",
                "--trainer.accumulate_grad_batches=2",
                "--trainer.max_steps=20",
                "--trainer.enable_progress_bar=false",
                "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
                "--trainer.logger.save_dir=.",
                "--trainer.accelerator=cpu",
                '--trainer.callbacks+={"class_path": "LearningRateMonitor"}',
            ]
        )
    assert "joint_rank   100    10       90  of a lower rank: 90" in caplog.text
    student, before = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in ("student_select2reason", source)
    )
    assert not all(torch.equal(student[name], before[name]) for name in before)
    (log,) = tmp_path.rglob("metrics.csv")
    rows = [row for row in csv.DictReader(log.read_text().splitlines()) if row.get("lr-AdamW")]
    by_step = {row["step"]: float(row["lr-AdamW"]) for row in rows}  # of several batches each
    rates = list(by_step.values())
    assert len(rates) == 20  # five epochs of four steps
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(5e-5)
    assert peak == 1  # 10 % of warm-up
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] < 1e-8
    assert rates[-1] < 1e-6

"""Both stages of REDI from the command line: the second starts from the export of the first."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import kdlight.configs
from kdlight.cli import main
from tests.support import tiny_lm

CONFIGS = Path(kdlight.configs.__path__[0])


def run(config: str, *options: str) -> None:
    main(
        [
            "fit",
            f"--config={CONFIGS / config}",
            "--data.init_args.files=traces.jsonl",
            "--data.init_args.batch_size=4",
            "--trainer.max_steps=2",
            "--trainer.accumulate_grad_batches=2",
            "--trainer.enable_progress_bar=false",
            "--trainer.logger=false",
            "--trainer.accelerator=cpu",
            *options,
        ]
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised within Lightning
def test_the_second_stage_starts_from_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])
    source = tiny_lm.save(tmp_path / "model")
    rows = [{"prompt": f"{i}+1=", "chosen": f"{i + 1}", "rejected": f"{i}"} for i in range(40)]
    Path("traces.jsonl").write_text("\n".join(map(json.dumps, rows)))
    limits = "--data.init_args.max_length=64"
    run("redi_stage1.yaml", f"--model.init_args.student.init_args.source={source}", limits)
    run("redi.yaml", "--model.init_args.optimizer.init_args.lr=0.0", "--trainer.max_steps=1")
    first, second, original = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in ("student", "student_redi", source)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)  # the learning rate is 0
    assert not all(torch.equal(first[name], original[name]) for name in first)
    assert "Student saved: student_redi" in capsys.readouterr().out

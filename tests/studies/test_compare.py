"""The comparison of all objectives: small, through its own command, stopped and gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from kdlight import CausalLM
from kdlight.objectives import OBJECTIVES
from tests.studies.compare.methods import LEARNED, METHODS
from tests.studies.compare.outside import evaluate, write_task
from tests.studies.compare.remembered import Remembered, remember
from tests.studies.compare.results import path_of, spread
from tests.studies.compare.setting import Setting
from tests.studies.compare.table import table
from tests.support import tiny_lm

ROOT = Path(__file__).parents[2]
needs_harness = pytest.mark.skipif(
    find_spec("lm_eval") is None, reason="needs the extra `compare`, the evaluation harness"
)


def test_each_method_learns_by_an_objective_of_the_library() -> None:
    made = [objective() for name in LEARNED if (objective := METHODS[name].objective)]
    assert {type(each) for each in made} <= set(OBJECTIVES.values())
    assert len(made) >= 14


def test_a_remembered_teacher_answers_as_the_network_did(tmp_path: Path) -> None:
    network = CausalLM.wrap(tiny_lm.model()).eval()
    blocks = list(torch.randint(0, 100, (5, 12)))
    remember(network, blocks, tmp_path / "whole.safetensors", batch=5)
    batch = {"input_ids": torch.stack([blocks[4], blocks[1]])}
    remembered = Remembered(tmp_path / "whole.safetensors")(batch)
    with torch.no_grad():
        torch.testing.assert_close(remembered.logits(), network(batch).logits())


def test_a_remembered_teacher_invents_nothing(tmp_path: Path) -> None:
    network = CausalLM.wrap(tiny_lm.model()).eval()
    remember(network, [torch.arange(8)], tmp_path / "whole.safetensors", batch=1)
    with pytest.raises(KeyError):
        Remembered(tmp_path / "whole.safetensors")({"input_ids": torch.ones(1, 8).long()})


def test_a_folder_holds_one_comparison(tmp_path: Path) -> None:
    Setting(steps=3).settle(tmp_path)
    Setting(steps=3).settle(tmp_path)
    with pytest.raises(ValueError, match="'steps': 3"):
        Setting(steps=4).settle(tmp_path)


def test_the_table_has_means_and_standard_errors() -> None:
    runs = [{"forward_kl": 1.0, "ece": 0.02}, {"forward_kl": 3.0, "ece": 0.02}, {"seconds": 1.0}]
    assert spread(runs, "forward_kl") == (2.0, 1.0)
    row = table({"taid": runs}).splitlines()[-1]
    assert row.startswith("| TAID | 2.000 ± 1.000 |")
    assert "| 2.00 |" in row


def command(folder: Path, *more: str) -> list[str]:
    small = {"steps": 2, "block": 16, "batch": 2, "held_out": 2, "prompts": 2, "max_tokens": 2000}
    sizes = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    start = [sys.executable, "-m", "tests.studies.compare", "--output", str(folder)]
    return [*start, "--seeds", "1", "--rounds", "1", *sizes, *more]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_whole_of_it_on_a_tiny_model(tmp_path: Path) -> None:
    """With figures of the harness left out, which the next test is about."""
    text = tmp_path / "text.jsonl"
    rows = [f"document {i} says " + "so " * (10 + i) for i in range(40)]
    text.write_text("\n".join(json.dumps({"text": row}) for row in rows))
    source = tiny_lm.save(tmp_path / "tiny")
    model = ["--source", source, "--files", str(text), "--layers", "0", "--no-harness"]
    folder = tmp_path / "out"

    first = run([*command(folder), *model, "--methods", "cross_entropy", "--only", "fits"])
    assert first.returncode == 0, first.stderr
    fit = path_of(folder, "fit", "cross_entropy", 0)
    written, kept = fit.read_text(), fit.stat().st_mtime_ns

    again = run([*command(folder), *model, "--methods", "cross_entropy", "cached"])
    assert again.returncode == 0, again.stderr
    assert "fits: 100%" in again.stderr
    assert "1/1" in again.stderr  # of two, one was there
    assert fit.stat().st_mtime_ns == kept
    figures = json.loads(written)
    assert figures["forward_kl"] > 0
    assert figures["perplexity"] < 200  # about as many signs
    for wanted in ("cross-entropy", "top-k cache", "tokens/s"):
        assert wanted in (folder / "compare.md").read_text()
    assert (folder / "compare.svg").stat().st_size > 2000


@needs_harness
@pytest.mark.slow
def test_the_harness_measures_what_the_model_says(tmp_path: Path) -> None:
    tiny_lm.save(tmp_path / "tiny")
    write_task(["the quick brown fox", "jumps over"], tmp_path / "task")
    bits = evaluate(tmp_path / "tiny", tmp_path / "task")["bits_per_byte"]
    # a character is a byte here, and an untrained model knows nothing about the next of 102
    assert bits == pytest.approx(6.67, abs=0.5)

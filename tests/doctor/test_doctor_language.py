"""``kdlight doctor`` on language models: tokenizers, contexts, big vocabularies, stored answers."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdlight import DistillationModule, FrozenTeacher, LossInputs, Projected
from kdlight.cli import main
from kdlight.doctor import examine
from kdlight.doctor.logits import logits_bytes
from kdlight.objectives import CrossEntropy, ForwardKL
from kdlight.sources import LogitsSource, TopK
from kdlight.teachers import Teacher
from tests.configs.test_configs import CONFIGS, arguments, tiny  # noqa: F401
from tests.support import toy

(QUICKSTART,) = (path for path in CONFIGS if path.stem == "quickstart")


def run(capsys: pytest.CaptureFixture[str], small: dict[str, str], *args: str) -> tuple[int, str]:
    """The exit code and what was printed for the main job with a tiny model."""
    code = 0
    try:
        main(["doctor", *arguments(QUICKSTART, small)[1:], *args])
    except SystemExit as stop:
        code = int(stop.code or 0)
    return code, " ".join(capsys.readouterr().out.split())


@pytest.fixture(autouse=True)
def _like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])


def test_the_main_job_works(
    tiny: dict[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    code, printed = run(capsys, tiny)
    assert code == 0, printed
    assert "batch 4 x 32 positions" in printed
    assert "warning" not in printed
    assert list(tmp_path.iterdir()) == []


def test_a_block_longer_than_the_context(
    tiny: dict[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, printed = run(capsys, tiny, "--data.block_size=512")
    assert code == 1
    assert "error: block_size is 512, but the context of the student is 256 tokens" in printed


def test_files_that_are_not_there(
    tiny: dict[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, printed = run(capsys, tiny, "--data.files=nowhere.txt")
    assert code == 1
    assert "error: the training data cannot be opened" in printed
    assert "nowhere.txt" in printed


def test_a_tokenizer_with_other_ids(
    tiny: dict[str, str],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """As many tokens and no word of an error in a fit: the ids only mean something else."""
    folder = tmp_path / "other"
    shutil.copytree(tiny["source"], folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    ids = tokenizer["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    path.write_text(json.dumps(tokenizer))
    code, printed = run(capsys, tiny, "--data.tokenizer", str(folder))
    assert code == 1
    assert "error: the tokenizers of data and teacher differ: 2 tokens have other ids" in printed


def test_ids_beyond_a_vocabulary(tmp_path: Path) -> None:
    data = toy.RaggedModule(4)
    data.data.sequences[0][1] = 11
    report = examine(toy.module(), data, toy.trainer(tmp_path))
    assert any("input_ids reach 11" in text for text in report.errors), report
    assert any("labels reach 11, but the student has 11" in text for text in report.errors)


@pytest.mark.parametrize("chunked", [True, False])
def test_logits_dense_and_in_chunks(chunked: bool) -> None:
    student, teacher = torch.zeros(4, 500, 4), torch.zeros(4, 500, 8, dtype=torch.bfloat16)
    head = nn.Linear(8, 1000, dtype=torch.bfloat16).requires_grad_(False)
    step = LossInputs(
        Projected(student, nn.Linear(4, 1000)),
        Projected(teacher, head),
        chunked=chunked,
    )
    told = logits_bytes(step, kept=1800, autocast=None, device=torch.device("cpu"))
    assert told.in_chunks is chunked
    assert 0 < told.tokens < 1800
    assert (told.student, told.teacher) == (2 * 1800 * 1000 * 4, 1800 * 1000 * 2)
    assert (told.student_chunked, told.teacher_chunked) == (
        told.tokens * 1000 * 4,
        told.tokens * 1000 * 2,
    )


def test_chunks_do_not_help_logits_that_are_there() -> None:
    step = LossInputs(torch.zeros(4, 500, 1000), torch.zeros(4, 500, 1000, dtype=torch.bfloat16))
    told = logits_bytes(step, kept=1800, autocast=None, device=torch.device("cpu"))
    assert (told.student, told.student_chunked) == (2 * 2000 * 1000 * 4, None)
    assert (told.teacher, told.teacher_chunked) == (2000 * 1000 * 2, None)


class Stored(Teacher):
    """A teacher that looks its answers up by the numbers of a batch, as one in a file does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def answer(self, batch: Any, student: Any = None, labels: Any = None) -> LogitsSource:
        ids: Tensor = batch["input_ids"]
        assert int(ids.sum()) > 0  # a tensor without numbers would raise
        first = torch.zeros(*ids.shape, 1)
        return TopK(first.long(), first - 1, toy.VOCABULARY)

    def prepare(self, device: torch.device) -> None: ...

    def release(self) -> None: ...


def test_a_stored_teacher(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(bytes(5 * 2**20))
    module = DistillationModule(
        student=toy.ToyLM(), teacher=Stored(tmp_path), objective=ForwardKL()
    )
    data = toy.RaggedModule(4, count=4, length=10, silent=())
    report = examine(module, data, toy.trainer(tmp_path))
    assert report.errors == report.warnings == []
    (row,) = (each for each in report.rows if each.name.startswith("teacher"))
    (made,) = (each.bytes for each in report.rows if each.name == "logits of the teacher, dense")
    ids_and_log_probs, rows = 4 * 10 * (8 + 4), 4 * 9 * toy.VOCABULARY * 4
    assert made == ids_and_log_probs + rows
    assert (row.name, row.bytes) == ("teacher, Stored", 0)
    assert row.note.startswith("5.0 MiB in ")
    assert isinstance(module.teacher, Stored)


def test_a_student_that_looks_at_numbers_has_no_known_activations(tmp_path: Path) -> None:
    class Sorting(toy.ToyLM):
        def forward(self, batch: dict[str, Tensor]) -> Any:
            assert batch["input_ids"].max().item() < toy.VOCABULARY
            return super().forward(batch)

    module = DistillationModule(
        student=Sorting(), teacher=FrozenTeacher(toy.ToyLM()), objective=CrossEntropy()
    )
    report = examine(module, toy.RaggedModule(4), toy.trainer(tmp_path))
    assert report.errors == []
    assert any("a training step works, but its sizes" in text for text in report.warnings)
    assert "without activations (estimate), logits" in str(report)

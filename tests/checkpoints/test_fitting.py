"""Weights and a format that do not fit a run are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdlight.objectives import ForwardKL, LearnableTemperature
from tests.support import toy
from tests.support.saved_run import save_run


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a short run."""
    return save_run(tmp_path_factory.mktemp("saved"))


def test_a_checkpoint_of_other_parts_names_them(saved: Path, tmp_path: Path) -> None:
    module = toy.module(LearnableTemperature(ForwardKL()))
    module.student.head = torch.nn.Linear(6, 12)
    module.teacher.model.head = torch.nn.Linear(12, 12)  # type: ignore[union-attr]
    module.student.vocab_size = module.teacher.model.vocab_size = 12  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="another student, objective or vocabulary") as error:
        toy.trainer(tmp_path).fit(module, toy.loader(8), ckpt_path=str(saved))
    message = str(error.value)
    assert "only in this run: objective." in message
    assert "student.head.weight (11, 6) in the checkpoint, (12, 6) in this run" in message
    assert "teacher" not in message


def test_another_objective_without_weights_raises_a_warning(saved: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="was trained with ForwardKL, and this run has Weighted"):
        toy.trainer(tmp_path).fit(toy.module(), toy.loader(8), ckpt_path=str(saved))


def test_a_later_format_is_refused(saved: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(saved, weights_only=True)
    assert checkpoint["kdlight"]["format"] == 1
    checkpoint["kdlight"].update(format=2, version="9.0")
    torch.save(checkpoint, tmp_path / "later.ckpt")
    with pytest.raises(ValueError, match=r"by kdlight 9.0 in format 2.*up to 1; upgrade kdlight"):
        toy.trainer(tmp_path).fit(
            toy.module(ForwardKL()), toy.loader(8), ckpt_path=str(tmp_path / "later.ckpt")
        )

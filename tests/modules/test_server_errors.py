"""A server that is gone ends a fit once, on all ranks, after a checkpoint that resumes exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kdlight.endpoints import ServerError
from kdlight.modules.server_errors import NAME
from tests.support.rank_scripts import run_script
from tests.support.served_fit import largest_difference
from tests.support.server_error_fit import run


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_run_resumes_from_the_checkpoint_to_the_same_bits(
    accumulate: int, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": accumulate}
    whole = run(tmp_path / "a", **options).student.state_dict()
    with pytest.raises(ServerError, match=rf"did not answer\. The run was saved: .*{NAME}"):
        run(tmp_path / "b", at=8, **options)
    path = tmp_path / "b" / NAME
    resumed = run(tmp_path / "c", ckpt_path=str(path), **options).student.state_dict()
    assert largest_difference(whole, resumed) == 0


def test_without_exact_resume_no_batch_is_skipped(tmp_path: Path) -> None:
    whole = run(tmp_path / "a", exact=False).student.state_dict()
    with pytest.raises(ServerError):
        run(tmp_path / "b", at=8, exact=False)
    path = str(tmp_path / "b" / NAME)
    resumed = run(tmp_path / "c", ckpt_path=path, exact=False)
    assert largest_difference(whole, resumed.student.state_dict()) == 0
    assert resumed.teacher.asked == 12 - 7


def test_before_the_first_step_there_is_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(ServerError) as error:
        run(tmp_path, at=1)
    assert "saved" not in str(error.value)
    assert not (tmp_path / NAME).exists()


def test_other_errors_save_nothing(tmp_path: Path) -> None:
    from kdlight import FrozenTeacher
    from tests.support.served_fit import Rows, causal_lm, module, trainer

    class Fails(FrozenTeacher):
        asked = 0

        def answer(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
            self.asked += 1
            if self.asked == 3:
                raise RuntimeError("another error")
            return super().answer(*arguments, **options)  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="another error"):
        trainer(tmp_path).fit(module(Fails(causal_lm())), Rows())
    assert not (tmp_path / NAME).exists()


@pytest.mark.slow
@pytest.mark.parametrize("at", [3, 5], ids=["in training", "in validation"])
def test_all_ranks_end_with_one_checkpoint(at: int, tmp_path: Path) -> None:
    """An epoch of each rank has three batches."""
    run_script("tests.support.server_error_fit", str(tmp_path), str(at), timeout=120)
    told = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert told[1].startswith("http://teacher:8000 did not answer")
    assert "did not answer 1 of 2 ranks" in told[0]
    assert all("The run was saved" in each for each in told)
    assert (tmp_path / NAME).exists()

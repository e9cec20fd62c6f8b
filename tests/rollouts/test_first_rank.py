"""One rank works, all have its result or its error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist

from kdlight.endpoints import RequestRefused, ServerError
from kdlight.rollouts.first_rank import on_first_rank
from tests.support.gloo import run_on_ranks


def works(rank: int) -> None:
    calls: list[int] = []
    assert on_first_rank(lambda: calls.append(rank) or {"folder": "a"}) == {"folder": "a"}
    assert calls == ([0] if rank == 0 else [])


def fails(rank: int) -> None:
    def work() -> None:
        raise OSError("the disk is full")

    kind = OSError if rank == 0 else RuntimeError
    with pytest.raises(kind, match="the disk is full"):
        on_first_rank(work)
    dist.barrier()


def refuses(rank: int) -> None:
    def work() -> None:
        raise RequestRefused("no weights", url="http://there", status=400, text="no")

    kind = RequestRefused if rank == 0 else ServerError
    with pytest.raises(kind, match="no weights") as caught:
        on_first_rank(work)
    assert caught.value.url == "http://there"
    dist.barrier()


@pytest.mark.slow
@pytest.mark.parametrize("function", [works, fails, refuses])
def test_all_ranks_get_the_result_or_the_error(function, tmp_path: Path) -> None:  # noqa: ANN001
    run_on_ranks(function, tmp_path)


def test_a_process_alone_just_works() -> None:
    assert on_first_rank(lambda: 5) == 5
    with pytest.raises(OSError, match="full"):
        fails_alone()


def fails_alone() -> None:
    def work() -> None:
        raise OSError("full")

    on_first_rank(work)

"""Training on text that a server writes, whose weights follow those of the student."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from starlette.responses import JSONResponse, Response

from kdlight import FrozenTeacher
from kdlight.callbacks import OnPolicy, SequenceCorrection
from kdlight.endpoints import ServerError
from kdlight.models import Sampling
from kdlight.modules.server_errors import NAME
from kdlight.rollouts import VLLMRollouts
from tests.callbacks.test_on_policy import Watch, diverse_llama, loader, module
from tests.support import toy
from tests.support.forked_ranks import run_forked
from tests.support.rank_scripts import results_of_ranks
from tests.support.rollout_error_fit import REFUSED
from tests.support.token_server import TokenServer, serve

GREEDY = Sampling(temperature=0.0, max_new_tokens=6)
RATE = 0.3
"""A learning rate with which each step changes what is written."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TokenServer]:
    folder = tmp_path / "exported"
    diverse_llama(8, seed=9).save_pretrained(folder)  # other weights than those of the student
    with serve(folder, context=64) as state:
        yield state


def learner() -> Any:
    made = module()
    made.optimizer = lambda parameters: torch.optim.SGD(parameters, lr=RATE)
    return made


def fit(folder: Path, callback: OnPolicy, *, count: int = 32, **options: Any) -> tuple[Watch, Any]:
    watch = Watch()
    trainer = toy.trainer(folder, callbacks=[callback, watch])
    trainer.fit(learner(), loader(count), weights_only=False, **options)
    return watch, trainer


def engine(server: TokenServer, folder: Path, **options: Any) -> VLLMRollouts:
    return VLLMRollouts(server.url, folder=str(folder / "weights"), **options)


def same_batches(one: Watch, other: Watch) -> bool:
    pairs = zip(one.batches, other.batches, strict=True)
    return all(torch.equal(a["input_ids"], b["input_ids"]) for a, b in pairs)


@pytest.mark.parametrize("kind", [OnPolicy, SequenceCorrection])
def test_a_fit_gets_the_batches_that_the_student_would_have_written(
    kind: type[OnPolicy], server: TokenServer, tmp_path: Path
) -> None:
    local, _ = fit(tmp_path, kind(sampling=GREEDY))
    served, trainer = fit(tmp_path, kind(sampling=GREEDY, engine=engine(server, tmp_path)))
    assert same_batches(local, served)
    assert len({str(batch["input_ids"][0].tolist()) for batch in served.batches}) > 2
    assert len(server.loaded) == len(served.batches) == 8  # once a step, not once a text
    assert trainer.callback_metrics["train/rollouts/staleness"] == 0
    assert trainer.callback_metrics["train/rollouts/sync_error"] < 1e-4


def test_weights_are_sent_every_few_steps(server: TokenServer, tmp_path: Path) -> None:
    ages: list[float] = []

    class Ages(Watch):
        def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *rest: Any) -> None:
            ages.append(trainer.callback_metrics["train/rollouts/staleness"].item())

    callback = OnPolicy(sampling=GREEDY, engine=engine(server, tmp_path, sync_every=3))
    trainer = toy.trainer(tmp_path, callbacks=[callback, Ages()])
    trainer.fit(learner(), loader(32))
    assert ages == [0, 1, 2, 0, 1, 2, 0, 1]
    assert len(server.loaded) == 3


def test_a_resumed_fit_writes_the_same(server: TokenServer, tmp_path: Path) -> None:
    def run(epochs: int, **options: Any) -> tuple[Watch, Any]:
        watch, written = Watch(), OnPolicy(sampling=GREEDY, engine=engine(server, tmp_path))
        trainer = toy.trainer(tmp_path, callbacks=[written, watch], max_epochs=epochs)
        trainer.fit(learner(), loader(16), weights_only=False, **options)
        return watch, trainer

    whole, _ = run(2)
    _, half = run(1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    server.restart()
    resumed, _ = run(2, ckpt_path=tmp_path / "half.ckpt")
    for seen, expected in zip(resumed.batches, whole.batches[4:], strict=True):
        assert torch.equal(seen["input_ids"], expected["input_ids"])


def test_the_weights_of_another_model_end_the_run(server: TokenServer, tmp_path: Path) -> None:
    server.load = lambda folder: None
    callback = OnPolicy(sampling=GREEDY, engine=engine(server, tmp_path))
    with pytest.raises(ServerError, match="more than max_sync_error=0.05; start the server with"):
        fit(tmp_path, callback)
    callback.engine.close()


def test_an_engine_is_refused_if_it_is_none() -> None:
    bad: Any = "vllm"
    with pytest.raises(TypeError, match="engine must be a kdlight.rollouts.RolloutEngine or None"):
        OnPolicy(engine=bad)


@pytest.mark.slow
def test_each_rank_asks_for_its_own_prompts_and_the_first_sends_the_weights(
    server: TokenServer, tmp_path: Path
) -> None:
    folder = tmp_path / "ranks"
    folder.mkdir()
    run_forked("tests.support.rollout_fit", str(folder), server.url, timeout=120)
    first, second = results_of_ranks(folder)
    for strategy in ("ddp", "fsdp2"):
        local, served = first[f"{strategy} local"], first[f"{strategy} served"]
        assert torch.equal(local["batches"][-1]["input_ids"], served["batches"][-1]["input_ids"])
        assert local["loss"] == pytest.approx(served["loss"])
        assert second[f"{strategy} served"]["loss"] == served["loss"]
    assert len(server.loaded) == 6  # three steps of each strategy


@pytest.mark.slow
@pytest.mark.parametrize("what", ["a text", "the weights"])
def test_a_server_that_fails_ends_the_run_on_all_ranks_with_one_checkpoint(
    what: str, server: TokenServer, tmp_path: Path
) -> None:
    def fault(state: TokenServer, body: dict[str, Any], number: int) -> Response | None:
        is_text = body["token_ids"][0] == REFUSED
        is_probe = body["sampling_params"].get("prompt_logprobs") is not None
        fails = is_text if what == "a text" else is_probe and len(server.loaded) == 3
        return JSONResponse({"error": "busy"}, 503) if fails else None

    server.fault = fault
    folder = tmp_path / "ranks"
    folder.mkdir()
    run_forked("tests.support.rollout_error_fit", str(folder), server.url, timeout=120)
    told = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert all("The run was saved" in each for each in told)
    if what == "a text":
        assert told[0].startswith("the server of the engine did not answer 1 of 2 ranks")
    else:
        assert "on the first rank: " in told[1]
    saved = torch.load(folder / NAME, weights_only=False)
    assert saved["global_step"] == saved["callbacks"]["OnPolicy"]["batches"] == 2


def test_the_connections_are_closed_where_a_fit_ends_with_an_error(
    server: TokenServer, tmp_path: Path
) -> None:
    closed: list[bool] = []

    class Closes(VLLMRollouts):
        def close(self) -> None:
            closed.append(True)
            super().close()

    server.fault = lambda *_: JSONResponse({}, 400)
    made = Closes(server.url, folder=str(tmp_path / "weights"), retries=0)
    with pytest.raises(ServerError):
        fit(tmp_path, OnPolicy(sampling=GREEDY, engine=made))
    assert closed


@pytest.mark.parametrize("kind", [OnPolicy, SequenceCorrection])
@pytest.mark.parametrize("where", ["here", "served"])
def test_only_tokens_that_the_teacher_knows_are_drawn(
    kind: type[OnPolicy], where: str, server: TokenServer, tmp_path: Path
) -> None:
    """One of a padded vocabulary, whose last columns the other does not have."""
    made, known, watch = learner(), 6, Watch()
    made.teacher = FrozenTeacher(diverse_llama(12, seed=2), vocab_size=known)
    callback = kind(prompt_tokens=2, engine=engine(server, tmp_path) if where == "served" else None)
    ids = torch.randint(1, known, (8, 24), generator=torch.Generator().manual_seed(0))
    rows = torch.utils.data.DataLoader([{"input_ids": row} for row in ids], 4)  # type: ignore[arg-type]
    toy.trainer(tmp_path, callbacks=[callback, watch]).fit(made, rows)
    for batch in watch.batches:
        assert int(batch["input_ids"].max()) < known
        assert len(batch["input_ids"].unique()) > 3

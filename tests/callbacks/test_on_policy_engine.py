"""Training on text that a server writes, whose weights follow those of the student."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule

from kdlight.callbacks import OnPolicy, SequenceCorrection
from kdlight.endpoints import ServerError
from kdlight.models import Sampling
from kdlight.rollouts import VLLMRollouts
from tests.callbacks.test_on_policy import Watch, diverse_llama, loader, module
from tests.support import toy
from tests.support.forked_ranks import run_forked
from tests.support.rank_scripts import results_of_ranks
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

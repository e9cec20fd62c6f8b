"""The student writes what it is trained on: with real generation and the real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.callbacks import OnPolicy, SequenceCorrection
from kdlight.objectives import ForwardKL
from kdlight.schedules import Linear
from tests.support import toy

LENGTH, PROMPT = 12, 4


def loader(count: int = 8, batch_size: int = 4) -> DataLoader:
    """Sequences of one length whose first tokens are a prompt."""

    def collate(rows: Any) -> dict[str, Tensor]:
        batch = toy.pad(rows)
        batch["labels"][:, :PROMPT] = -100
        return batch

    data = toy.Ragged(count, length=LENGTH, silent=())
    return DataLoader(data, batch_size, collate_fn=collate)


class Watch(Callback):
    """Keeps the batches as the module sees them; goes behind what it watches."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        self.batches.append(dict(batch))


def wild(dim: int, *, seed: int) -> Any:
    """A model that has more to say than its last token again."""
    network, generator = toy.llama(dim, seed=seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5, generator=generator)
    return network


def module(objective: Any = None) -> DistillationModule:
    objective = ForwardKL() if objective is None else objective
    return DistillationModule(wild(8, seed=1), objective, wild(12, seed=2))


def fit(
    folder: Path, callback: OnPolicy, *, count: int = 8, objective: Any = None, **options: Any
) -> tuple[Watch, Any, DistillationModule]:
    watch, learner = Watch(), module(objective)
    trainer = toy.trainer(folder, callbacks=[callback, watch], **options)
    trainer.fit(learner, loader(count))
    return watch, trainer, learner


def originals(count: int = 8) -> list[dict[str, Tensor]]:
    return list(loader(count))


def replaced(watch: Watch) -> list[bool]:
    given = originals(4 * len(watch.batches))
    return [
        seen["input_ids"].shape != old["input_ids"].shape
        or not torch.equal(seen["input_ids"], old["input_ids"])
        for seen, old in zip(watch.batches, given, strict=True)
    ]


def test_prompts_stay_and_responses_are_the_students(tmp_path: Path) -> None:
    watch, trainer, _ = fit(tmp_path, OnPolicy(temperature=0.0))
    for seen, old in zip(watch.batches, originals(), strict=True):
        assert torch.equal(seen["input_ids"][:, :PROMPT], old["input_ids"][:, :PROMPT])
        assert (seen["labels"][:, :PROMPT] == -100).all()
        assert seen["input_ids"].shape[1] <= LENGTH
        counts = seen["labels"] != -100
        assert torch.equal(seen["labels"][counts], seen["input_ids"][counts])
        assert torch.equal(counts[:, PROMPT:], seen["attention_mask"][:, PROMPT:].bool())
    first = watch.batches[0]
    with torch.no_grad():  # before any step: the student as it is made
        logits = module().student({**first}).logits()
    said = logits.argmax(-1)[:, :-1]
    counts = first["labels"][:, 1:] != -100
    assert torch.equal(said[counts], first["input_ids"][:, 1:][counts])
    assert trainer.callback_metrics["train/on_policy/share"] == 1
    assert trainer.callback_metrics["train/on_policy/length"] > 0


def test_a_fraction_of_the_batches_is_replaced_and_a_law_moves_it(tmp_path: Path) -> None:
    half = replaced(fit(tmp_path, OnPolicy(fraction=0.5, max_new_tokens=2), count=96)[0])
    assert 6 <= sum(half) <= 18
    assert half == replaced(fit(tmp_path, OnPolicy(fraction=0.5, max_new_tokens=2), count=96)[0])
    rising = replaced(
        fit(tmp_path, OnPolicy(fraction=Linear(0.0, 1.0), max_new_tokens=2), count=96)[0]
    )
    assert sum(rising[:8]) < sum(rising[-8:])
    assert not any(replaced(fit(tmp_path, OnPolicy(fraction=0.0))[0]))


def test_off_policy_draws_from_what_was_written_before(tmp_path: Path) -> None:
    callback = OnPolicy(refresh_every=3, max_new_tokens=3, capacity=4)
    watch, _, _ = fit(tmp_path, callback, count=24)
    assert len(callback.buffer) == 4
    fresh = {tuple(row) for row in watch.batches[0]["input_ids"][:, : PROMPT + 1].tolist()}
    for later in watch.batches[1:3]:
        assert {tuple(row) for row in later["input_ids"][:, : PROMPT + 1].tolist()} <= fresh
    assert not {tuple(row) for row in watch.batches[3]["input_ids"][:, :PROMPT].tolist()} & {
        row[:PROMPT] for row in fresh
    }


def test_other_random_numbers_are_left_alone(tmp_path: Path) -> None:
    class Draw(Watch):
        def on_train_batch_start(self, *given: Any) -> None:
            self.drawn = torch.rand(3)

    drawn = []
    for fraction in (0.0, 1.0):
        torch.manual_seed(3)
        draw = Draw()
        learner = module()
        torch.manual_seed(3)
        toy.trainer(tmp_path, callbacks=[OnPolicy(fraction=fraction), draw]).fit(learner, loader())
        drawn.append(draw.drawn)
        assert learner.student.training
    assert torch.equal(*drawn)


def test_a_resumed_run_writes_and_draws_the_same(tmp_path: Path) -> None:
    def run(epochs: int, **options: Any) -> tuple[Watch, Any]:
        callback = SequenceCorrection(fraction=0.7, refresh_every=2, max_new_tokens=4)
        watch = Watch()
        trainer = toy.trainer(tmp_path, callbacks=[callback, watch], max_epochs=epochs)
        trainer.fit(module(), loader(24), weights_only=False, **options)
        return watch, trainer

    whole, _ = run(2)
    _, half = run(1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    rest, _ = run(2, ckpt_path=tmp_path / "half.ckpt")
    assert len(rest.batches) == 6
    for seen, expected in zip(rest.batches, whole.batches[6:], strict=True):
        assert all(torch.equal(seen[name], expected[name]) for name in expected)

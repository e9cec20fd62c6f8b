"""Training on text that the student generates, with the real Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.callbacks import OnPolicy, SequenceCorrection
from kdlight.models import Sampling
from kdlight.objectives import ForwardKL
from kdlight.schedules import Linear
from tests.support import toy

LENGTH, PROMPT = 12, 4
GREEDY = Sampling(temperature=0.0)


def loader(count: int = 8, batch_size: int = 4) -> DataLoader:
    """Sequences of one length whose first tokens are a prompt."""

    def collate(rows: Any) -> dict[str, Tensor]:
        batch = toy.pad(rows)
        batch["labels"][:, :PROMPT] = -100
        return batch

    data = toy.Ragged(count, length=LENGTH, silent=())
    return DataLoader(data, batch_size, collate_fn=collate)


class Watch(Callback):
    """Keeps the batches that the module gets; must come after the callback that replaces them."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        self.batches.append(dict(batch))


def diverse_llama(dim: int, *, seed: int) -> Any:
    """A model with large weights, which does not only repeat its last token."""
    network, generator = toy.llama(dim, seed=seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.5, generator=generator)
    return network


def module(objective: Any = None) -> DistillationModule:
    objective = ForwardKL() if objective is None else objective
    return DistillationModule(diverse_llama(8, seed=1), objective, diverse_llama(12, seed=2))


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
    originally = originals(4 * len(watch.batches))
    return [
        seen["input_ids"].shape != old["input_ids"].shape
        or not torch.equal(seen["input_ids"], old["input_ids"])
        for seen, old in zip(watch.batches, originally, strict=True)
    ]


def test_prompts_are_kept_and_responses_are_generated_by_the_student(tmp_path: Path) -> None:
    watch, trainer, _ = fit(tmp_path, OnPolicy(sampling=GREEDY))
    for seen, old in zip(watch.batches, originals(), strict=True):
        assert torch.equal(seen["input_ids"][:, :PROMPT], old["input_ids"][:, :PROMPT])
        assert (seen["labels"][:, :PROMPT] == -100).all()
        assert seen["input_ids"].shape[1] <= LENGTH
        counts = seen["labels"] != -100
        assert torch.equal(seen["labels"][counts], seen["input_ids"][counts])
        assert torch.equal(counts[:, PROMPT:], seen["attention_mask"][:, PROMPT:].bool())
    first = watch.batches[0]
    with torch.no_grad():  # the student as it was before the first step
        logits = module().student({**first}).logits()
    greedy = logits.argmax(-1)[:, :-1]
    counts = first["labels"][:, 1:] != -100
    assert torch.equal(greedy[counts], first["input_ids"][:, 1:][counts])
    assert trainer.callback_metrics["train/on_policy/share"] == 1
    assert trainer.callback_metrics["train/on_policy/length"] > 0


def test_a_fraction_of_the_batches_is_replaced_constant_or_scheduled(tmp_path: Path) -> None:
    short = Sampling(max_new_tokens=2)
    half = replaced(fit(tmp_path, OnPolicy(fraction=0.5, sampling=short), count=96)[0])
    assert 6 <= sum(half) <= 18
    assert half == replaced(fit(tmp_path, OnPolicy(fraction=0.5, sampling=short), count=96)[0])
    rising = replaced(
        fit(tmp_path, OnPolicy(fraction=Linear(0.0, 1.0), sampling=short), count=96)[0]
    )
    assert sum(rising[:8]) < sum(rising[-8:])
    assert not any(replaced(fit(tmp_path, OnPolicy(fraction=0.0))[0]))


def test_off_policy_draws_from_the_buffer(tmp_path: Path) -> None:
    callback = OnPolicy(refresh_every=3, sampling=Sampling(max_new_tokens=3), capacity=4)
    watch, _, _ = fit(tmp_path, callback, count=24)
    assert len(callback.buffer) == 4
    fresh = {tuple(row) for row in watch.batches[0]["input_ids"][:, : PROMPT + 1].tolist()}
    for later in watch.batches[1:3]:
        assert {tuple(row) for row in later["input_ids"][:, : PROMPT + 1].tolist()} <= fresh
    assert not {tuple(row) for row in watch.batches[3]["input_ids"][:, :PROMPT].tolist()} & {
        row[:PROMPT] for row in fresh
    }


def test_the_global_random_generators_are_not_changed(tmp_path: Path) -> None:
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


def test_a_resumed_run_generates_and_draws_the_same(tmp_path: Path) -> None:
    def run(epochs: int, **options: Any) -> tuple[Watch, Any]:
        callback = SequenceCorrection(
            fraction=0.7, refresh_every=2, sampling=Sampling(max_new_tokens=4)
        )
        watch = Watch()
        trainer = toy.trainer(tmp_path, callbacks=[callback, watch], max_epochs=epochs)
        trainer.fit(module(), loader(24), weights_only=False, **options)
        return watch, trainer

    uninterrupted, _ = run(2)
    _, half = run(1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = run(2, ckpt_path=tmp_path / "half.ckpt")
    assert len(resumed.batches) == 6
    for seen, expected in zip(resumed.batches, uninterrupted.batches[6:], strict=True):
        assert all(torch.equal(seen[name], expected[name]) for name in expected)


def test_batches_without_input_ids_are_refused(tmp_path: Path) -> None:
    pairs = DataLoader([(torch.zeros(3), torch.tensor(0))] * 4, 2)  # type: ignore[arg-type]
    trainer = toy.trainer(tmp_path, callbacks=[OnPolicy()], max_steps=1)
    with pytest.raises(ValueError, match="OnPolicy needs batches that are mappings .* got list"):
        trainer.fit(module(), pairs)


@pytest.mark.parametrize(
    "options", [{"prompt_tokens": 0}, {"refresh_every": 0}, {"capacity": 0}, {"fraction": -0.1}]
)
def test_arguments_outside_their_range_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be"):
        OnPolicy(**options)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"end": [-1]}, ValueError, "end must be at least 0, got -1"),
        ({"end": 3}, TypeError, "end must be a list of token ids"),
        ({"end": ["a"]}, TypeError, "end must be an integer"),
        ({"capacity": 2.5}, TypeError, "capacity must be an integer"),
        ({"refresh_every": True}, TypeError, "refresh_every must be an integer"),
        ({"prompt_tokens": 0}, ValueError, "prompt_tokens must be at least 1"),
        ({"fraction": "half"}, TypeError, "fraction must be a number or a"),
        ({"fraction": float("nan")}, ValueError, "fraction must be in"),
        ({"sampling": {"temperature": 0}}, TypeError, "sampling must be a kdlight.models.Sampling"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_refused_at_construction(options: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        OnPolicy(**options)

"""What a callback that generates text needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.strategies import FSDPStrategy, SingleDeviceStrategy

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks import OnPolicy
from kdlight.callbacks.generation.checks import (
    check_end,
    check_generates,
    check_strategy,
    check_tokenizer,
)
from kdlight.data import TextDataModule
from kdlight.models import Sampling
from kdlight.objectives import ForwardKL
from tests.support import tiny_lm, toy


def test_a_network_must_have_generate() -> None:
    check_generates("OnPolicy", "student", toy.llama())
    with pytest.raises(ValueError, match="OnPolicy needs a teacher that generates text, and ToyLM"):
        check_generates("OnPolicy", "teacher", toy.ToyLM())


def test_the_data_module_must_have_a_tokenizer(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path)
    with pytest.raises(ValueError, match="takes the tokenizer from the data module, which has"):
        check_tokenizer("GenerationSamples", trainer)


@pytest.mark.parametrize("end", [[-1], 5, "ab", [1.5], [True], [3, None]], ids=range(6))
def test_end_tokens_are_ids(end: Any) -> None:
    check_end(None)
    check_end([])
    check_end([0, 3])
    with pytest.raises((TypeError, ValueError), match="^end must be "):
        check_end(end)
    with pytest.raises((TypeError, ValueError), match="^end must be "):
        OnPolicy(end=end)


@pytest.mark.parametrize("prompt_tokens", [15, 16, 1000])
def test_a_block_must_have_room_for_a_response(prompt_tokens: int, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words, and others. " * 20)
    (tmp_path / "b.txt").write_text("more of the same, so to say. " * 20)
    data = TextDataModule(tiny_lm.tokenizer(), f"{tmp_path}/*.txt", block_size=16, batch_size=2)
    student, teacher = CausalLM.wrap(tiny_lm.model()), CausalLM.wrap(tiny_lm.model(seed=1))
    module = DistillationModule(student=student, teacher=teacher, objective=ForwardKL())
    callbacks = [OnPolicy(sampling=Sampling(temperature=0.0), prompt_tokens=prompt_tokens)]
    trainer = toy.trainer(tmp_path, max_steps=1, callbacks=callbacks)
    if prompt_tokens < 16:
        trainer.fit(module, data)
        assert trainer.callback_metrics["train/on_policy/share"] == 1
        return
    message = f"OnPolicy: prompt_tokens is {prompt_tokens}, but the blocks .* 16 tokens"
    with pytest.raises(ValueError, match=message):
        trainer.fit(module, data)


def test_an_end_token_that_the_student_does_not_have_is_refused(tmp_path: Path) -> None:
    trainer = toy.trainer(tmp_path, max_steps=1, callbacks=[OnPolicy(end=[10**6])])
    with pytest.raises(ValueError, match="OnPolicy: end has the id 1000000, but the student has"):
        trainer.fit(toy.module(network="llama"), toy.loader(8))


def test_a_strategy_that_hides_the_student_is_refused() -> None:
    check_strategy("Asks", SimpleNamespace(strategy=SingleDeviceStrategy()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Asks cannot generate under FSDPStrategy; use DDP"):
        check_strategy("Asks", SimpleNamespace(strategy=FSDPStrategy()))  # type: ignore[arg-type]

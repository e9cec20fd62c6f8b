"""Continuations printed before and after training."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch import LightningDataModule

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks import GenerationSamples
from kdlight.objectives import ForwardKL
from tests.support import tiny_lm, toy


class Data(LightningDataModule):
    """Toy batches, whose token ids are those of the first characters of the tokenizer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokenizer = tiny_lm.tokenizer()

    def train_dataloader(self) -> object:
        return toy.loader(8)


def module() -> DistillationModule:
    student, teacher = (CausalLM.wrap(tiny_lm.model(seed=seed)) for seed in (1, 2))
    return DistillationModule(student, ForwardKL(), teacher)


def test_student_and_teacher_continue_the_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, learner = GenerationSamples(["1 + 1"], max_new_tokens=4), module()
    toy.trainer(tmp_path, callbacks=[samples], max_steps=1).fit(learner, Data())
    printed = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert printed[0] == [">", "1", "+", "1", "..."]
    assert [line[0] for line in printed[1:4]] == ["before", "after", "teacher"]
    assert samples.before is not None
    tokenizer = tiny_lm.tokenizer()
    ids = tokenizer("1 + 1", return_tensors="pt").input_ids
    out = tiny_lm.model(seed=1).generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert samples.before == [tokenizer.decode(out[0, 5:], skip_special_tokens=True)]


def test_a_resumed_run_keeps_the_texts_of_the_untrained_student() -> None:
    resumed = GenerationSamples()
    resumed.load_state_dict({"before": ["text"]})
    assert resumed.state_dict() == {"before": ["text"]}


def test_networks_must_generate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a student that generates text, and ToyLM does not"):
        toy.trainer(tmp_path, callbacks=[GenerationSamples()]).fit(toy.module(), toy.loader(8))


def test_the_data_module_must_have_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="takes the tokenizer from the data module, which has none"
    ):
        toy.trainer(tmp_path, callbacks=[GenerationSamples()]).fit(module(), toy.loader(8))


def test_max_new_tokens_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_new_tokens must be at least 1, got 0"):
        GenerationSamples(max_new_tokens=0)

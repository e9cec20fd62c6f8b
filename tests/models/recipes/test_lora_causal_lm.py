"""Adapters alone are trained, and a run is resumed from its checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import nn

from kdlight import CausalLM, LoRACausalLM, Projected, PrunedCausalLM, SingleInput, prune_layers
from kdlight.callbacks import ExactResume
from tests.models.recipes.lora import differing, logits, trained, weights
from tests.support import toy
from tests.support.runs import saving


@pytest.mark.parametrize("layers", [None, [0, 1]])
def test_a_new_student_answers_as_its_base_does(layers: list[int] | None) -> None:
    teacher = toy.llama().eval()
    student = LoRACausalLM(layers=layers).build(teacher)
    assert student.training
    batch = {"input_ids": torch.arange(toy.VOCABULARY)[None]}
    source = student.eval()(batch)
    assert isinstance(source, Projected)
    assert torch.equal(source.logits(), teacher(batch).logits())
    assert (student.vocab_size, student.context_length) == (toy.VOCABULARY, 64)
    assert student.generate(batch["input_ids"], max_new_tokens=2).shape[1] >= toy.VOCABULARY


def test_its_logits_are_those_of_the_adapted_model(tmp_path: Path) -> None:
    module, _, _ = trained(tmp_path)
    batch = {"input_ids": torch.arange(toy.VOCABULARY)[None]}
    source = module.student.eval()(batch)
    assert torch.equal(source.logits(), logits(module.student.model))


def test_adapters_alone_get_gradients_and_move(tmp_path: Path) -> None:
    module, before, teacher = trained(tmp_path)
    learning = {name for name, p in module.student.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 7  # A and B beside seven linear layers
    assert all("lora_" in name for name in learning)
    assert differing(before, weights(module)) == learning
    optimizer = module.trainer.optimizers[0]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(learning)
    module.zero_grad()
    module.student({"input_ids": torch.arange(7)[None]}).logits().logsumexp(-1).sum().backward()
    reached = {name for name, p in module.student.named_parameters() if p.grad is not None}
    assert reached == learning
    untouched = toy.llama(seed=2)
    assert differing(teacher.state_dict(), untouched.state_dict()) == set()
    assert not any("lora" in name for name, _ in teacher.named_modules())


def test_nothing_is_shared_with_the_teacher() -> None:
    teacher = toy.llama()
    student = LoRACausalLM().build(teacher)
    ours = {p.untyped_storage().data_ptr() for p in student.parameters()}
    assert ours.isdisjoint(p.untyped_storage().data_ptr() for p in teacher.parameters())
    assert all(p.requires_grad for p in teacher.parameters())


def test_adapters_stay_in_float32_beside_frozen_weights_in_half() -> None:
    student = LoRACausalLM(dtype="bfloat16").build(toy.llama())
    dtypes = {p.requires_grad: p.dtype for p in student.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


def test_a_source_takes_the_place_of_the_teacher(tmp_path: Path) -> None:
    other = toy.llama(seed=3)
    other.save_pretrained(tmp_path)  # type: ignore[operator]
    student = LoRACausalLM(str(tmp_path), target_modules=["q_proj"]).build(
        SingleInput(nn.Linear(2, 3))
    )
    assert torch.equal(logits(student.model), logits(other.model))
    assert sum(p.requires_grad for p in student.parameters()) == 2 * 2


def test_a_resumed_run_gives_bitwise_equal_weights(tmp_path: Path) -> None:
    whole, _, _ = trained(tmp_path, steps=8, callbacks=[saving(tmp_path), ExactResume()])
    saved = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in saved} == {"student"}
    assert len(saved) > len([name for name in saved if "lora_" in name]) > 0
    assert differing({f"student.{k}": v for k, v in weights(whole).items()}, saved)
    again = [saving(tmp_path / "again"), ExactResume()]
    start = tmp_path / "epoch=0.ckpt"
    resumed, _, _ = trained(tmp_path, steps=8, start=start, callbacks=again)
    assert resumed.trainer.global_step == 8
    assert differing(weights(whole), weights(resumed)) == set()


def test_an_export_is_a_model_with_the_adapters_merged(tmp_path: Path) -> None:
    module, _, _ = trained(tmp_path)
    before = {name: value.clone() for name, value in weights(module).items()}
    exported = LoRACausalLM().export(module.student)
    assert type(exported) is CausalLM
    assert not exported.training
    assert not any("lora" in name for name in exported.state_dict())
    found, expected = logits(exported.model), logits(module.student.model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert differing(before, weights(module)) == set()
    with pytest.raises(TypeError, match="student must be a student with adapters"):
        LoRACausalLM().export(exported)


def test_a_missing_peft_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'kdlight\[peft\]'"):
        LoRACausalLM()


@pytest.mark.parametrize(("name", "value"), [("r", 0), ("alpha", 0.0), ("dropout", 1.0)])
def test_a_number_outside_its_range(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be .*got {value}"):
        LoRACausalLM(**{name: value})


def test_a_teacher_that_is_no_language_model() -> None:
    with pytest.raises(TypeError, match="SingleInput.*source"):
        LoRACausalLM().build(SingleInput(nn.Linear(2, 3)))


def test_its_layers_are_chosen_by_importance() -> None:
    layers, data = {"keep": 1, "by": "importance"}, [toy.pad([*toy.Ragged(4)])]
    teacher = toy.llama().eval()
    recipe = LoRACausalLM(layers=layers, data=data)
    student = recipe.build(teacher)
    expected = PrunedCausalLM(layers, data=data)
    pruned = expected.build(teacher)
    assert recipe.rebuild_arguments() == {"layers": expected.chosen_layers, "data": None}
    assert torch.equal(logits(student.model), logits(pruned.model))
    with pytest.raises(ValueError, match="is measured on training data, but data is None"):
        LoRACausalLM(layers=layers)


def test_adapters_of_another_model_are_no_base(tmp_path: Path) -> None:
    module, _, _ = trained(tmp_path)
    module.student.save_pretrained(tmp_path / "adapters", adapter_only=True)
    with pytest.raises(ValueError, match="has some; merge them first"):
        LoRACausalLM().build(module.student)
    with pytest.raises(ValueError, match=r"PrunedCausalLM\(layers=1\) starts from a model without"):
        PrunedCausalLM(1).build(module.student)
    toy.llama().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    config = tmp_path / "adapters" / "adapter_config.json"
    values = json.loads(config.read_text()) | {"base_model_name_or_path": str(tmp_path / "base")}
    config.write_text(json.dumps(values))
    for load in (
        LoRACausalLM(str(tmp_path / "adapters")).build,
        lambda: CausalLM(str(tmp_path / "adapters")),
    ):
        with pytest.raises(ValueError, match=r"adapters' holds adapters of peft"):
            load()


def test_adapters_of_a_pruned_base_go_on_no_other_model(tmp_path: Path) -> None:
    toy.llama().save_pretrained(tmp_path / "base")  # type: ignore[operator]
    teacher = CausalLM(str(tmp_path / "base"))
    student = LoRACausalLM(layers=[0]).build(teacher)
    student.save_pretrained(tmp_path / "out", adapter_only=True)
    with pytest.raises((ValueError, OSError)):  # not the whole model at "base"
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = prune_layers(teacher.model, [0])
    adapted = peft.PeftModel.from_pretrained(base, tmp_path / "out")
    assert torch.equal(logits(adapted), logits(student.model))
    LoRACausalLM().build(teacher).save_pretrained(tmp_path / "whole", adapter_only=True)
    assert (
        transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "whole"
        ).config.num_hidden_layers
        == 2
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_modules": 5}, "target_modules must be a text or a list of names"),
        ({"target_modules": []}, "target_modules must name at least one layer"),
        ({"batches": 2}, "batches says what the importance of layers is measured on"),
        ({"data": [{}]}, "data says what the importance of layers is measured on"),
        ({"alpha": True}, "alpha must be a number, got True"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        LoRACausalLM(**arguments)


def test_layers_that_are_not_there_are_listed() -> None:
    recipe = LoRACausalLM(target_modules=["query"])
    with pytest.raises(ValueError, match=r"layers are called down_proj, .*q_proj, up_proj, v_proj"):
        recipe.build(toy.llama())

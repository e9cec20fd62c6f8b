"""A student is pruned from its teacher, trained, saved and used without kdlight."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn

from kdlight.models import (
    CausalLM,
    LoRACausalLM,
    PrunedCausalLM,
    SingleInput,
    layer_importance,
    load_model,
    load_tokenizer,
    prune_layers,
    prune_width,
    top_units,
    width_importance,
)
from tests.models.pruning.width_models import batch, decoder
from tests.models.tiny_models import SMOLLM2

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


def test_tied_weights_stay_tied(llama, tmp_path):
    student = PrunedCausalLM(2).build(llama)
    student.save_pretrained(tmp_path)
    for model in (student.model, load_model(str(tmp_path))):
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_recipe_builds_from_the_teacher_as_it_is_given(llama):
    model = CausalLM.wrap(llama).to(torch.bfloat16).eval()
    for teacher in (model, model.model):
        student = PrunedCausalLM(2).build(teacher)
        assert student.training
        assert {p.dtype for p in student.parameters()} == {torch.float32}
        assert student.model.config.num_hidden_layers == 2
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_a_recipe_can_cut_another_model(llama, tmp_path):
    CausalLM.wrap(llama).save_pretrained(tmp_path)
    student = PrunedCausalLM([0, 3], source=str(tmp_path)).build(SingleInput(nn.Linear(2, 31)))
    assert torch.equal(student.model.lm_head.weight, llama.lm_head.weight)


@pytest.mark.slow
def test_a_pruned_student_is_used_without_kdlight(tmp_path):
    teacher = CausalLM(SMOLLM2)
    tokenizer = load_tokenizer(SMOLLM2)
    assert (teacher.vocab_size, teacher.context_length) == (49152, 8192)
    student = PrunedCausalLM([0, 29]).build(teacher)
    student.save_pretrained(tmp_path / "student", tokenizer=tokenizer)
    prompt = "The import statement"
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    expected = student.generate(ids, max_new_tokens=5, do_sample=False)[0].tolist()
    code = (
        "import sys; sys.modules['kdlight'] = sys.modules['gguf'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "ids = tokenizer(sys.argv[2], return_tensors='pt')\n"
        "print(model.generate(**ids, max_new_tokens=5, do_sample=False)[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "student"), prompt],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["whole", "pruned", "lora"])
def test_a_mamba_may_be_cast_after_it_is_wrapped(kind: str, dtype: torch.dtype) -> None:
    """Its last norm is wider than its head, in which the model casts, too."""
    config = transformers.MambaConfig(
        vocab_size=31, hidden_size=16, num_hidden_layers=3, state_size=4
    )
    model = transformers.MambaForCausalLM(config)
    student: Any = CausalLM.wrap(model)
    if kind == "pruned":
        student = PrunedCausalLM([0, 2]).build(student)
    elif kind == "lora":
        pytest.importorskip("peft")
        student = LoRACausalLM(layers=2, target_modules=["in_proj"]).build(student)
    student.to(dtype).eval()
    ids = torch.randint(31, (2, 5))
    with torch.no_grad():
        logits = student({"input_ids": ids}).logits().float()
        expected = student.model(input_ids=ids).logits.float()
    torch.testing.assert_close(logits, expected, rtol=2e-2, atol=2e-2)


BY_IMPORTANCE = {"keep": 2, "by": "importance"}


def same_weights(one: Any, other: Any) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "smollm3"])
def test_depth_and_width_are_pruned_by_one_measurement(name: str) -> None:
    model, batches = decoder(name), [batch(), batch(seed=2), batch(seed=3)]
    width: dict[str, Any] = {"heads": 2, "feed_forward": 10, "hidden": 12}
    recipe = PrunedCausalLM(BY_IMPORTANCE, width=width, data=batches, batches=2)
    student = recipe.build(CausalLM.wrap(model))
    layers = top_units(layer_importance(model, batches[:2]), 2)
    importance = width_importance(model, batches[:2]).of_layers(layers)
    assert recipe.chosen_layers == layers
    by_hand = prune_width(prune_layers(model, layers), **width, importance=importance)
    assert same_weights(student.model, by_hand)
    assert student.training
    assert not same_weights(PrunedCausalLM([0, 2], width=width, data=batches).build(model), by_hand)


@pytest.mark.parametrize(
    ("arguments", "config"),
    [
        ({"layers": BY_IMPORTANCE}, {"num_hidden_layers": 2, "hidden_size": 16}),
        ({"width": {"hidden": 8}}, {"num_hidden_layers": 3, "hidden_size": 8}),
        ({"layers": [0, 2], "width": {"heads": 2}}, {"num_hidden_layers": 2, "head_dim": 4}),
        ({"layers": {"keep": 2, "by": "even"}}, {"num_hidden_layers": 2, "head_dim": 4}),
    ],
    ids=str,
)
def test_depth_and_width_alone(arguments: Any, config: dict[str, int]) -> None:
    student = PrunedCausalLM(**arguments, data=[batch()]).build(decoder("llama"))
    assert {name: getattr(student.model.config, name) for name in config} == config


def test_layers_by_importance_of_any_architecture() -> None:
    model = decoder("gpt2")
    recipe = PrunedCausalLM(BY_IMPORTANCE, data=[batch()])
    student = recipe.build(model)
    assert same_weights(student.model, prune_layers(model, recipe.chosen_layers or []))
    with pytest.raises(ValueError, match="GPT2LMHeadModel cannot be pruned in width"):
        PrunedCausalLM(width={"heads": 1}, data=[batch()]).build(model)


def test_a_teacher_in_half_precision_gives_a_student_in_float32() -> None:
    teacher = CausalLM.wrap(decoder("llama").bfloat16())
    student = PrunedCausalLM(BY_IMPORTANCE, width={"heads": 2}, data=[batch()]).build(teacher)
    assert {each.dtype for each in student.parameters()} == {torch.float32}
    assert {each.dtype for each in teacher.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("arguments", [{"layers": BY_IMPORTANCE}, {"width": {"heads": 2}}], ids=str)
def test_what_is_measured_needs_data(arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"is measured on training data, but data is None"):
        PrunedCausalLM(**arguments)


def test_nothing_to_prune_is_refused() -> None:
    with pytest.raises(ValueError, match="layers and width are both None"):
        PrunedCausalLM()


def test_it_is_shown_by_what_it_prunes() -> None:
    recipe = PrunedCausalLM(BY_IMPORTANCE, width={"heads": 2}, data=[batch()])
    shown = "PrunedCausalLM(layers={'keep': 2, 'by': 'importance'}, width={'heads': 2})"
    assert repr(recipe) == shown


@pytest.mark.parametrize("measured", ["layers", "width"])
def test_it_is_built_again_without_data(measured: str) -> None:
    model, width = decoder("llama"), {"heads": 2, "hidden": 8}
    arguments: dict[str, Any] = {"layers": [0, 2], "width": {**width, "by": "first"}}
    arguments[measured] = BY_IMPORTANCE if measured == "layers" else width
    recipe = PrunedCausalLM(**arguments, data=[batch()])
    student = recipe.build(model)
    changes = recipe.rebuild_arguments()
    assert set(changes) == {measured, "data"}
    again = PrunedCausalLM(**{**arguments, **changes})
    rebuilt = again.build(model)
    assert again.rebuild_arguments() == {}
    assert rebuilt.model.config.to_dict() == student.model.config.to_dict()
    rebuilt.load_state_dict(student.state_dict())
    assert same_weights(rebuilt, student)


def test_nothing_is_to_be_changed_where_nothing_is_measured() -> None:
    assert PrunedCausalLM(2).rebuild_arguments() == {}
    assert LoRACausalLM(layers=2).rebuild_arguments() == {}

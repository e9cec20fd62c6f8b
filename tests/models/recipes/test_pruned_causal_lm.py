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
    load_model,
    load_tokenizer,
)
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

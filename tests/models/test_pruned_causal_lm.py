"""A student is pruned from its teacher, trained, saved and used without kdlight."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from kdlight.models import (
    CausalLM,
    PrunedCausalLM,
    SingleInput,
    load_model,
    load_tokenizer,
)
from tests.models.tiny_models import SMOLLM2


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

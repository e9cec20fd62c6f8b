"""The doctor says how logits are computed, and where a wrapper differs from its model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from kdlight import CausalLM, DistillationModule, SingleInput
from kdlight.doctor.fast_path import fast_paths
from kdlight.objectives import ForwardKL
from tests.models.tiny_models import tiny, tokens


def module(student: nn.Module) -> DistillationModule:
    return DistillationModule(student, ForwardKL(), teacher=CausalLM.wrap(tiny("llama")))


def test_a_wrapper_that_agrees_is_said_to() -> None:
    facts = fast_paths(module(CausalLM.wrap(tiny("llama"))), {"input_ids": tokens()})
    student, teacher = (text for _, text in facts)
    assert student.startswith("student: ")
    assert teacher.startswith("teacher: ")
    assert all("they are the whole model's" in each for each in (student, teacher))


@pytest.mark.filterwarnings("ignore:.*the whole model computes them from now on")
def test_a_wrapper_that_differs_from_its_model_is_found() -> None:
    model = tiny("llama")
    student = CausalLM.wrap(model)
    forward = model.forward

    def odd(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits + torch.linspace(0, 1, output.logits.shape[-1])
        return output

    model.forward = odd
    said = next(text for _, text in fast_paths(module(student), {"input_ids": tokens()}))
    assert "student: logits are computed by the whole model, as those of its head differ" in said
    assert not student.is_fast


def test_other_networks_are_not_compared() -> None:
    own = module(SingleInput(nn.Embedding(31, 31), key="input_ids"))
    (only,) = fast_paths(own, {"input_ids": tokens()})
    assert only[1].startswith("teacher: ")

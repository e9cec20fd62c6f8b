"""Forward passes in training mode run the chosen layers, and leave the model whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.callbacks.elastic.forward_passes import ElasticPasses
from kdlight.models import SubNetworks, prune_layers
from tests.support import toy
from tests.support.elastic_fit import DEPTH, llama

IDS = torch.arange(toy.VOCABULARY)[None]


def passes_of(student: Any) -> ElasticPasses:
    passes = ElasticPasses(SubNetworks(student.model))
    passes.attach()
    return passes


def test_a_pass_in_training_mode_is_that_of_a_pruned_copy() -> None:
    student = llama()
    whole, small = student({"input_ids": IDS}).logits(), prune_layers(student.model, [0, 3])
    passes = passes_of(student)
    passes.choose([0, 3])
    assert torch.equal(student({"input_ids": IDS}).logits(), small(input_ids=IDS).logits)
    assert passes.count == 1
    assert len(student.model.model.layers) == DEPTH
    passes.choose(None)
    assert torch.equal(student({"input_ids": IDS}).logits(), whole)
    assert passes.count == 0
    passes.choose([0, 3])
    passes.detach()
    assert torch.equal(student({"input_ids": IDS}).logits(), whole)


def test_evaluations_and_generated_text_are_those_of_all_layers() -> None:
    student = llama()
    expected = student.generate(IDS, max_new_tokens=5, do_sample=False)
    passes = passes_of(student)
    passes.choose([0])
    assert torch.equal(student.generate(IDS, max_new_tokens=5, do_sample=False), expected)
    assert passes.count == 0


def test_an_error_in_a_pass_leaves_the_model_whole() -> None:
    student = llama()
    passes = passes_of(student)
    passes.choose([0, 4])

    def fail(*args: Any) -> None:
        raise RuntimeError("in a layer")

    handle = student.model.model.layers[4].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="in a layer"):
        student({"input_ids": IDS})
    handle.remove()
    assert len(student.model.model.layers) == student.model.config.num_hidden_layers == DEPTH
    small = prune_layers(student.model, [0, 4])
    assert torch.equal(student({"input_ids": IDS}).logits(), small(input_ids=IDS).logits)


def test_a_hook_that_fails_before_ours_is_not_taken_for_a_pass() -> None:
    student = llama()
    passes = passes_of(student)
    passes.choose([0, 4])

    def fail(*args: Any) -> None:
        raise RuntimeError("earlier")

    handle = student.model.model.register_forward_pre_hook(fail, prepend=True)
    with pytest.raises(RuntimeError, match="earlier"):
        student({"input_ids": IDS})
    handle.remove()
    student({"input_ids": IDS})
    assert (passes.count, len(student.model.model.layers)) == (1, DEPTH)

"""Inputs without features are otherwise those of a training step."""

from __future__ import annotations

import torch

from kdlight.callbacks.inference.logit_inputs import logit_inputs
from kdlight.objectives import ForwardKL, HiddenStates, Weighted
from tests.support import toy


def test_they_are_those_of_a_step_without_its_features() -> None:
    terms = {"kl": ForwardKL(), "hidden": HiddenStates({"layers.0": "layers.0"})}
    module = toy.module(Weighted(terms))
    batch = next(iter(toy.loader(2)))
    whole = module.loss_inputs(batch)
    alone = logit_inputs(module, batch)
    assert whole.student_features
    assert not alone.student_features
    assert alone.teacher is None
    assert torch.equal(alone.student.logits(), whole.student.logits())
    assert alone.labels is not None
    assert whole.labels is not None
    assert torch.equal(alone.labels, whole.labels)
    both = logit_inputs(module, batch, module.teacher_logits(batch))
    assert both.teacher is not None
    assert whole.teacher is not None
    assert torch.equal(both.teacher.logits(), whole.teacher.logits())

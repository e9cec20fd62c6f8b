"""FIRST's own code against the top-k loss, without what its paper does not say.

It sums over positions and divides by the batch size. Its ``use_other_token`` is no divergence.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.objectives import LossInputs, TopKForwardKL
from kdlight.sources import TopK
from tests.methods.test_conformance import ROOT, read

FILES = {path.stem: read(path) for path in sorted((ROOT / "first").glob("*.safetensors"))}
SOUND = [name for name, (meta, _) in FILES.items() if not meta["quirk"]]


def position_mask(name: str) -> Tensor:
    meta, tensors = FILES[name]
    only_answers = meta["hparams"]["method"].endswith("text2text")
    return tensors["loss_mask" if only_answers else "attention_mask"].bool()


@pytest.mark.parametrize("name", SOUND)
def test_loss_and_gradient_are_the_authors(name: str) -> None:
    meta, tensors = FILES[name]
    hyper, leaf = meta["hparams"], tensors["student_logits"].clone().requires_grad_()
    by_probs = hyper["use_norm"] == "softmax"
    epsilon = 0.0 if by_probs else hyper["norm_epsilon"]  # is added to probabilities of both
    objective = TopKForwardKL(
        tail="renormalise",
        temperature=hyper["teacher_temp"],
        recalibrate="probs" if by_probs else "logits",
    )
    student = (leaf.softmax(-1) + epsilon).log()
    log_p = (tensors["teacher_top_prob"] + epsilon).log()
    teacher = TopK(tensors["teacher_top_id"], log_p, leaf.shape[-1])
    total = objective(LossInputs(student, teacher, mask=position_mask(name))).total / len(leaf)
    (slope,) = torch.autograd.grad(total, leaf)
    torch.testing.assert_close(total.detach(), tensors["expected_loss"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(slope, tensors["expected_grad"], rtol=1e-4, atol=1e-6)


def test_the_other_tokens_are_a_bucket_and_not_a_log_of_no_probability() -> None:
    _, tensors = FILES["other_token_quirk"]
    student = tensors["student_logits"].double()
    ids, log_p = tensors["teacher_top_id"], tensors["teacher_top_prob"].double().log()
    ours = losses.topk_forward_kl(student, ids, log_p)
    assert (ours > 0).all()
    # a student that agrees has nothing to learn; the authors' sum of exp(t) (t - s) moves on
    agreeing = TopK(ids, log_p, student.shape[-1]).given_student(student).requires_grad_()
    value = losses.topk_forward_kl(agreeing, ids, log_p).sum()
    assert value.abs() < 1e-9
    assert torch.autograd.grad(value, agreeing)[0].abs().max() < 1e-9

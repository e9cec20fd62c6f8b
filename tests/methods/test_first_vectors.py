"""The top-k loss, compared with vectors of FIRST's own code, as far as it follows the paper.

The code sums over positions and divides by the batch size. Its ``use_other_token`` is not a
divergence.
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
    epsilon = 0.0 if by_probs else hyper["norm_epsilon"]  # added to both probabilities
    objective = TopKForwardKL(
        tail="renormalise",
        temperature=hyper["teacher_temp"],
        recalibrate="probs" if by_probs else "logits",
    )
    student = (leaf.softmax(-1) + epsilon).log()
    log_p = (tensors["teacher_top_prob"] + epsilon).log()
    teacher = TopK(tensors["teacher_top_id"], log_p, leaf.shape[-1])
    total = objective(LossInputs(student, teacher, mask=position_mask(name))).total / len(leaf)
    (gradient,) = torch.autograd.grad(total, leaf)
    torch.testing.assert_close(total.detach(), tensors["expected_loss"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradient, tensors["expected_grad"], rtol=1e-4, atol=1e-6)


def test_the_other_tokens_are_a_bucket_of_log_probability() -> None:
    _, tensors = FILES["other_token_quirk"]
    student = tensors["student_logits"].double()
    ids, log_p = tensors["teacher_top_id"], tensors["teacher_top_prob"].double().log()
    values = losses.topk_forward_kl(student, ids, log_p)
    assert (values > 0).all()
    # a student that matches has no gradient; the authors' sum of exp(t) (t - s) has one
    agreeing = TopK(ids, log_p, student.shape[-1]).given_student(student).requires_grad_()
    value = losses.topk_forward_kl(agreeing, ids, log_p).sum()
    assert value.abs() < 1e-9
    assert torch.autograd.grad(value, agreeing)[0].abs().max() < 1e-9

"""What DAC-KL compares: softmaxes, entropies, and the teacher's most likely tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from kdlight.losses.clipped_kl.compared import compare


def test_it_holds_softmaxes_entropies_and_the_likeliest_tokens(
    student: Tensor, teacher: Tensor
) -> None:
    both = compare(student.detach(), teacher, 9)
    log_p, log_q = teacher.log_softmax(-1), student.detach().log_softmax(-1)
    torch.testing.assert_close((both.p, both.q), (log_p.exp(), log_q.exp()))
    for found, logs in zip(both.entropies(), (log_p, log_q), strict=True):
        torch.testing.assert_close(found, -(logs.exp() * logs).sum(-1))
    top = log_p.topk(5, -1)
    torch.testing.assert_close(both.likeliest(5), (top.values, log_q.gather(-1, top.indices)))


def test_a_head_larger_than_the_vocabulary_is_all_of_it(student: Tensor, teacher: Tensor) -> None:
    assert compare(student.detach(), teacher, 1000).order.shape == teacher.shape

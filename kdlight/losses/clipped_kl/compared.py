"""Student and teacher, with what closed forms and networks of DAC-KL need of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdlight.losses.likeliest import likeliest
from kdlight.losses.value_and_grad import dot, softmax


class Compared(NamedTuple):
    """What both sides have in each row, where the highest logit is 0.

    Attributes:
        student: Logits of q, (n, V).
        teacher: Logits of p, (n, V).
        q: Probabilities of the student, (n, V).
        p: Probabilities of the teacher, (n, V).
        log_z_q: Log of the student's normalizer, (n,).
        log_z_p: Log of the teacher's normalizer, (n,).
        order: Ids of the teacher's most likely tokens, in order, (n, head).
    """

    student: Tensor
    teacher: Tensor
    q: Tensor
    p: Tensor
    log_z_q: Tensor
    log_z_p: Tensor
    order: Tensor

    def entropies(self) -> tuple[Tensor, Tensor]:
        """The entropies of p and of q, (n,) each."""
        sides = (self.p, self.teacher, self.log_z_p), (self.q, self.student, self.log_z_q)
        of_p, of_q = (log_z - dot(x, logits) for x, logits, log_z in sides)
        return of_p, of_q

    def likeliest(self, count: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the teacher's most likely tokens under p and q, (n, count) each."""
        order = self.order[:, :count]
        sides = (self.teacher, self.log_z_p), (self.student, self.log_z_q)
        of_p, of_q = (logits.gather(-1, order) - log_z.unsqueeze(-1) for logits, log_z in sides)
        return of_p, of_q


@torch.no_grad()
def compare(student: Tensor, teacher: Tensor, head: int) -> Compared:
    """Compute both softmaxes and the teacher's most likely tokens, (n, V), (n, V)."""
    student, q, log_z_q = softmax(student)
    teacher, p, log_z_p = softmax(teacher)
    _, order = likeliest(p, min(head, p.shape[-1]))
    return Compared(student, teacher, q, p, log_z_q, log_z_p, order)

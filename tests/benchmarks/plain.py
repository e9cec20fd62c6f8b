"""The losses in plain PyTorch, as one writes them at hand: no care for -inf or underflow.

The hyper-parameters are the defaults of the objectives. What an objective learns is a constant here
(the temperature of CTKD, the thresholds of DAC-KL), which leaves plain torch with less to do.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def forward_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return _kl(teacher.log_softmax(-1), student.log_softmax(-1))


def reverse_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return _kl(student.log_softmax(-1), teacher.log_softmax(-1))


def symmetric_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    return 0.5 * _kl(log_p, log_q) + 0.5 * _kl(log_q, log_p)


def jensen_shannon(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    log_m = (0.5 * log_p.exp() + 0.5 * log_q.exp()).log()
    return 0.5 * _kl(log_p, log_m) + 0.5 * _kl(log_q, log_m)


def total_variation(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return (teacher.softmax(-1) - student.softmax(-1)).abs().sum(-1) / 2


def skew_forward_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    q, p = student.softmax(-1), teacher.softmax(-1)
    return (p * (p.log() - (0.1 * p + 0.9 * q).log())).sum(-1)


def skew_reverse_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    q, p = student.softmax(-1), teacher.softmax(-1)
    return (q * (q.log() - (0.9 * p + 0.1 * q).log())).sum(-1)


def adaptive_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    with torch.no_grad():
        ordered, order = log_p.exp().sort(-1, descending=True)
        head = ordered.cumsum(-1) <= 0.5
        head[:, 0] = True
        gap = (ordered - log_q.exp().gather(-1, order)).abs()
        share = (gap * head).sum(-1) / gap.sum(-1)
    return share * _kl(log_p, log_q) + (1 - share) * _kl(log_q, log_p)


def todi(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    share, gap = (log_p - log_q).sigmoid().detach(), log_p - log_q
    return (share * log_p.exp() * gap - (1 - share) * log_q.exp() * gap).sum(-1)


def alpha_beta(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    q, p, a, b = student.softmax(-1), teacher.softmax(-1), 0.2, 0.7
    terms = p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)
    return -terms.sum(-1) / (a * b)


def decoupled_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    hot = functional.one_hot(labels, student.shape[-1])
    q, p = student.softmax(-1), teacher.softmax(-1)
    q_y, p_y = (q * hot).sum(-1), (p * hot).sum(-1)
    target = p_y * (p_y / q_y).log() + (1 - p_y) * ((1 - p_y) / (1 - q_y)).log()
    others = _kl((teacher - 1000 * hot).log_softmax(-1), (student - 1000 * hot).log_softmax(-1))
    return target + 8 * others


def taid(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    target = (0.6 * student.detach() + 0.4 * teacher).log_softmax(-1)
    return _kl(target, student.log_softmax(-1))


def bdkd(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    with torch.no_grad():
        surer = -(log_q.exp() * log_q).sum(-1) < -(log_p.exp() * log_p).sum(-1)
        forward, reverse = 1.0 + surer.float(), 2.0 - surer.float()
    return forward * _kl(log_p, log_q) + reverse * _kl(log_q, log_p)


def cross_entropy(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(student, labels, reduction="none")


def mean_squared_error(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return (student - teacher).square().mean(-1)


def ctkd(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    temperature = 1 + 20 * student.new_ones(()).sigmoid()
    log_q, log_p = ((each / temperature).log_softmax(-1) for each in (student, teacher))
    return _kl(log_p, log_q) * temperature**2


def dackl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    with torch.no_grad():
        ordered, order = log_p.exp().sort(-1, descending=True)
        mass = ordered.cumsum(-1)
        between = (mass - ordered < 0.95) & (mass > 0.3 * 0.018 * 0.95)
        between[:, 0] = True
        keep = torch.zeros_like(between).scatter_(-1, order, between)
        keep.scatter_(-1, labels.unsqueeze(-1), True)
    p, q = log_p.exp(), log_q.exp()
    rest_p, rest_q = (p * ~keep).sum(-1), (q * ~keep).sum(-1)
    kept = (p * (log_p - log_q) * keep).sum(-1)
    short = (0.9 - (p * keep).sum(-1)).clamp(min=0)
    return kept + rest_p * (rest_p.log() - rest_q.log()) + 10 * short.square()


def topk_forward_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    log_p, ids = teacher.log_softmax(-1).topk(5, -1)
    log_q = student.log_softmax(-1).gather(-1, ids)
    return _with_tail(log_p, log_q)


def topk_reverse_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    ids = student.topk(50, -1).indices
    log_q, log_p = (each.log_softmax(-1).gather(-1, ids) for each in (student, teacher))
    return _with_tail(log_q, log_p)


def _with_tail(log_p: Tensor, log_q: Tensor) -> Tensor:
    p, q = log_p.exp(), log_q.exp()
    rest_p, rest_q = 1 - p.sum(-1), 1 - q.sum(-1)
    return (p * (log_p - log_q)).sum(-1) + rest_p * (rest_p.log() - rest_q.log())


def sampled_reverse_kl(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    ids = labels.unsqueeze(-1)
    log_q, log_p = (each.log_softmax(-1).gather(-1, ids) for each in (student, teacher))
    return (log_q - log_p).square().squeeze(-1) / 2


PLAIN: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    function.__name__: function
    for function in (
        forward_kl,
        reverse_kl,
        symmetric_kl,
        jensen_shannon,
        total_variation,
        skew_forward_kl,
        skew_reverse_kl,
        adaptive_kl,
        todi,
        alpha_beta,
        decoupled_kl,
        taid,
        bdkd,
        cross_entropy,
        mean_squared_error,
        ctkd,
        dackl,
        topk_forward_kl,
        topk_reverse_kl,
        sampled_reverse_kl,
    )
}

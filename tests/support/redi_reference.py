"""Objectives on right and wrong sequences, slowly: one sequence, one token at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight.objectives import DPO, REDI, SimPO, Unlikelihood
from tests.support.reference import softmax


def by_reference(
    objective: Any, z: Tensor, p: Tensor, y: Tensor, lengths: Tensor, pairs: Tensor
) -> Tensor:
    """The mean over pairs, in loops: one sequence, one token at a time."""

    def log_probs(logits: Tensor, i: int) -> list[Tensor]:
        return [softmax(logits[i, t])[int(y[i, t])].log() for t in range(int(lengths[i]))]

    def mean(values: list[Tensor], at_least: int = 1) -> Tensor:
        return torch.stack(values).sum() / max(len(values), at_least)

    losses = []
    for right, wrong in pairs.T.tolist():
        up, down = log_probs(z, right), log_probs(z, wrong)
        if isinstance(objective, DPO):
            u = [torch.stack(each).sum() for each in (up, down)]
            r = [torch.stack(log_probs(p, i)).sum() for i in (right, wrong)]
            ratio = (u[0] - r[0]) - (u[1] - r[1])
            losses.append((1 + (-objective.beta * ratio).exp()).log())
        elif isinstance(objective, SimPO):
            margin = objective.beta * (mean(up) - mean(down)) - objective.gamma
            losses.append((1 + (-margin).exp()).log())
        elif isinstance(objective, Unlikelihood):
            away = mean([-(1 - value.exp()).log() for value in down])
            losses.append(-mean(up) + objective.alpha * away)
        else:
            losses.append(redi(objective, z, p, right, wrong, up, down, log_probs, lengths))
    return torch.stack(losses).mean()


def redi(
    objective: REDI,
    z: Tensor,
    p: Tensor,
    right: int,
    wrong: int,
    up: Any,
    down: Any,
    of: Any,
    lengths: Tensor,
) -> Tensor:
    towards = -torch.stack(up).mean()
    if objective.kd is not None:
        rows = slice(None, int(lengths[right]))
        kd = objective.kd.per_token_loss(z[right, rows], p[right, rows], None).mean()
        towards = (1 - objective.kd_weight) * towards + objective.kd_weight * kd
    if objective.floor is not None:
        down = [v if v > objective.floor else 0 * v.detach() + objective.floor for v in down]
    if objective.gate is not None:
        sure = [value.exp() > objective.gate for value in of(p, wrong)]
        down = [value if open_ else 0 * value for value, open_ in zip(down, sure, strict=True)]
    away = torch.stack(down).sum() / max(len(down), objective.min_rejected_length)
    return objective.chosen_weight * towards + objective.alpha * away

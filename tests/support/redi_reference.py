"""Slow references of the objectives on chosen and rejected sequences, token by token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kdlight.objectives import DPO, REDI, SimPO, Unlikelihood
from tests.support.reference import softmax


def by_reference(
    objective: Any, z: Tensor, p: Tensor, y: Tensor, lengths: Tensor, pairs: Tensor
) -> Tensor:
    """Compute the mean over pairs, in loops over sequences and tokens."""

    def log_probs(logits: Tensor, i: int) -> list[Tensor]:
        return [softmax(logits[i, t])[int(y[i, t])].log() for t in range(int(lengths[i]))]

    def mean(values: list[Tensor], min_length: int = 1) -> Tensor:
        return torch.stack(values).sum() / max(len(values), min_length)

    losses = []
    for chosen, rejected in pairs.T.tolist():
        chosen_log_p, rejected_log_p = log_probs(z, chosen), log_probs(z, rejected)
        if isinstance(objective, DPO):
            u = [torch.stack(each).sum() for each in (chosen_log_p, rejected_log_p)]
            r = [torch.stack(log_probs(p, i)).sum() for i in (chosen, rejected)]
            ratio = (u[0] - r[0]) - (u[1] - r[1])
            losses.append((1 + (-objective.beta * ratio).exp()).log())
        elif isinstance(objective, SimPO):
            margin = objective.beta * (mean(chosen_log_p) - mean(rejected_log_p)) - objective.gamma
            losses.append((1 + (-margin).exp()).log())
        elif isinstance(objective, Unlikelihood):
            rejected_loss = mean([-(1 - value.exp()).log() for value in rejected_log_p])
            losses.append(-mean(chosen_log_p) + objective.alpha * rejected_loss)
        else:
            losses.append(
                redi(
                    objective,
                    z,
                    p,
                    chosen,
                    rejected,
                    chosen_log_p,
                    rejected_log_p,
                    log_probs,
                    lengths,
                )
            )
    return torch.stack(losses).mean()


def redi(
    objective: REDI,
    z: Tensor,
    p: Tensor,
    chosen: int,
    rejected: int,
    chosen_log_p: Any,
    rejected_log_p: Any,
    log_probs: Any,
    lengths: Tensor,
) -> Tensor:
    chosen_loss = -torch.stack(chosen_log_p).mean()
    if objective.kd is not None:
        rows = slice(None, int(lengths[chosen]))
        kd = objective.kd.per_token_loss(z[chosen, rows], p[chosen, rows], None).mean()
        chosen_loss = (1 - objective.kd_weight) * chosen_loss + objective.kd_weight * kd
    if objective.floor is not None:
        rejected_log_p = [
            v if v > objective.floor else 0 * v.detach() + objective.floor for v in rejected_log_p
        ]
    if objective.gate is not None:
        likely = [value.exp() > objective.gate for value in log_probs(p, rejected)]
        rejected_log_p = [
            value if is_open else 0 * value
            for value, is_open in zip(rejected_log_p, likely, strict=True)
        ]
    rejected_loss = torch.stack(rejected_log_p).sum() / max(
        len(rejected_log_p), objective.min_rejected_length
    )
    return objective.chosen_weight * chosen_loss + objective.alpha * rejected_loss

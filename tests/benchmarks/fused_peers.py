"""What one would use in place of the chunked driver: plain torch, and peers from hidden states."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from peers import PEERS, missing
from plain import PLAIN
from torch import Tensor, nn

BETA = {"forward_kl": 0.0, "jensen_shannon": 0.5, "reverse_kl": 1.0}
LIGER_CHUNKS = (256, 1024)


class Work(NamedTuple):
    """Hidden states ``(N, D)`` and head weights ``(V, D)`` of both sides, and labels ``(N,)``."""

    hidden: Tensor
    weight: nn.Parameter
    teacher_hidden: Tensor
    teacher_weight: nn.Parameter
    labels: Tensor


Function = Callable[[Work], Tensor]


def rivals(objective: str, *, compiled: bool) -> dict[str, Function]:
    """The others, by name: eager ones, or those that are compiled."""
    found: dict[str, Function] = {}
    if not compiled:
        found["plain"] = partial(_whole, PLAIN[objective])
        for peer in ("trl", "torchtune"):
            if objective in PEERS.get(peer, {}):
                found[peer] = partial(_whole, PEERS[peer][objective])
        if objective == "taid":
            found["taid authors"] = partial(_whole, _taid_authors)
    else:
        found["plain, compiled"] = torch.compile(partial(_whole, PLAIN[objective]))
    if "liger" in PEERS and objective in BETA:
        for chunk in LIGER_CHUNKS:
            name = f"liger {chunk}" + (", compiled" if compiled else "")
            found[name] = partial(_liger, beta=BETA[objective], chunk=chunk, compiled=compiled)
    if objective == "cross_entropy" and hasattr(torch.nn.functional, "linear_cross_entropy"):
        found["torch linear_ce"] = _linear_cross_entropy
    return found


def _whole(loss: Any, work: Work) -> Tensor:
    student = (work.hidden @ work.weight.t()).float()
    teacher = (work.teacher_hidden @ work.teacher_weight.t()).float()
    return loss(student, teacher, work.labels).mean()


def _liger(work: Work, *, beta: float, chunk: int, compiled: bool) -> Tensor:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss  # type: ignore[import-not-found]

    module = LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0,
        weight_soft_loss=1.0,
        beta=beta,
        compiled=compiled,
        chunk_size=chunk,
    )
    return module(work.hidden, work.weight, work.teacher_hidden, work.teacher_weight, work.labels)


def _taid_authors(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    # the operations of the published code, in their order: it keeps the cross-entropy with the
    # target, without the entropy that would make it a KL
    target = torch.softmax(0.4 * teacher + 0.6 * student.detach(), -1, dtype=torch.float32)
    log_q = torch.log_softmax(student, -1, dtype=torch.float32)
    return -(target * log_q).masked_fill(student.isinf(), 0).sum(-1)


def _linear_cross_entropy(work: Work) -> Tensor:
    return torch.nn.functional.linear_cross_entropy(work.hidden, work.weight, work.labels)


__all__ = ["Work", "missing", "rivals"]

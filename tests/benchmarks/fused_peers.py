"""What one would use in place of the chunked driver: plain torch, and peers from hidden states.

- "trl": `GKDTrainer.generalized_jsd_loss` on logits, of TRL.
- "trl chunked": TRL's ``ChunkedDivergenceFunction``, from hidden states in tiles of tokens x
  vocabulary, recomputed in the backward pass; Triton on a GPU, torch elsewhere.
- "liger 256", "liger 1024": Liger's ``LigerFusedLinearJSDLoss`` in chunks of so many tokens.
- "liger triton": Liger's ``LigerFusedLinearJSD`` and ``LigerFusedLinearKLDivLoss``, GPU only. The
  second takes the teacher's probabilities, which are made from hidden states here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tests.benchmarks.peers import PEERS, missing
from tests.benchmarks.plain import PLAIN

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


def rivals(objective: str, *, compiled: bool, device: str = "cpu") -> dict[str, Function]:
    """The others, by name: eager ones, or those that are compiled."""
    found: dict[str, Function] = {}
    if not compiled:
        found["plain"] = partial(_whole, PLAIN[objective])
        for peer in ("trl", "torchtune"):
            if objective in PEERS.get(peer, {}):
                found[peer] = partial(_whole, PEERS[peer][objective])
        if objective == "taid":
            found["taid authors"] = partial(_whole, _taid_authors)
        if "trl chunked" in PEERS and objective in BETA:
            found["trl chunked"] = partial(_trl_chunked, beta=BETA[objective])
        if "liger" in PEERS and device != "cpu" and objective in BETA:
            found["liger triton jsd"] = partial(_liger_triton_jsd, beta=BETA[objective])
            if objective == "forward_kl":
                found["liger triton kl"] = _liger_triton_kl
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


def _trl_chunked(work: Work, *, beta: float) -> Tensor:
    function = import_module("trl.kernels.chunked_divergence").ChunkedDivergenceFunction
    student, teacher = (work.hidden, work.weight), (work.teacher_hidden, work.teacher_weight)
    return function.apply(*student, None, *teacher, None, beta)[0].mean()


def _liger(work: Work, *, beta: float, chunk: int, compiled: bool) -> Tensor:
    module = import_module("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0,
        weight_soft_loss=1.0,
        beta=beta,
        compiled=compiled,
        chunk_size=chunk,
    )
    return module(work.hidden, work.weight, work.teacher_hidden, work.teacher_weight, work.labels)


def _liger_triton_jsd(work: Work, *, beta: float) -> Tensor:
    module = import_module("liger_kernel.transformers").LigerFusedLinearJSD(jsd_beta=beta)
    return module(work.hidden, work.weight, work.teacher_hidden, work.teacher_weight, work.labels)


def _liger_triton_kl(work: Work) -> Tensor:
    module = import_module("liger_kernel.transformers.fused_linear_kl_div")
    with torch.no_grad():
        target = (work.teacher_hidden @ work.teacher_weight.t()).softmax(-1)
    return module.LigerFusedLinearKLDivLoss()(work.hidden, work.weight, target)


def _taid_authors(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    # the operations of the published code, in their order: it keeps the cross-entropy with the
    # target, without the entropy that would make it a KL
    target = torch.softmax(0.4 * teacher + 0.6 * student.detach(), -1, dtype=torch.float32)
    log_q = torch.log_softmax(student, -1, dtype=torch.float32)
    return -(target * log_q).masked_fill(student.isinf(), 0).sum(-1)


def _linear_cross_entropy(work: Work) -> Tensor:
    return torch.nn.functional.linear_cross_entropy(work.hidden, work.weight, work.labels)


__all__ = ["BETA", "Function", "Work", "missing", "rivals"]

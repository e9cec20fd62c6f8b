"""What plain transformers and plain torch make of a family; no code of kdlight."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.families.family import Family

CE_WEIGHT = 0.3
RATE = 0.1


class Rows(NamedTuple):
    """Logits of the positions that count, ``(n, V)``, and their labels ``(n,)``."""

    student: Tensor
    teacher: Tensor
    labels: Tensor | None


def rows(family: Family, student: nn.Module, teacher: nn.Module, batch: Any) -> Rows:
    with torch.no_grad():
        target = family.logits(teacher, batch)
    logits = family.logits(student, batch)
    if family.labels == "none":
        return Rows(logits.flatten(0, -2), target.flatten(0, -2), None)
    labels = batch[1] if isinstance(batch, tuple) else batch["labels"]
    if family.labels == "next token":
        logits, target, labels = logits[:, :-1], target[:, :-1], labels[:, 1:]
    counts = labels != family.ignored
    return Rows(logits[counts], target[counts], labels[counts].long())


def losses(rows: Rows) -> Tensor:
    """Return the sum of the losses: KL, and cross-entropy where there are labels."""
    student, teacher = rows.student.log_softmax(-1), rows.teacher.log_softmax(-1)
    total = F.kl_div(student, teacher, log_target=True, reduction="sum")
    if rows.labels is None:
        return total
    return total + CE_WEIGHT * F.cross_entropy(rows.student, rows.labels, reduction="sum")


def after_one_step(
    family: Family, student: nn.Module, teacher: nn.Module, batches: list[Any]
) -> dict[str, Tensor]:
    """Return the weights of a copy of the student after one step on all batches."""
    trained = copy.deepcopy(student).train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=RATE)
    seen = [rows(family, trained, teacher, batch) for batch in batches]
    sum(map(losses, seen), torch.zeros(())).div(sum(len(each.student) for each in seen)).backward()
    optimizer.step()
    return {name: value.detach() for name, value in trained.state_dict().items()}


def metrics(
    family: Family, student: nn.Module, teacher: nn.Module, batches: list[Any]
) -> dict[str, float]:
    """Return the metrics over the positions of all batches."""
    with torch.no_grad():
        seen = [rows(family, student, teacher, batch) for batch in batches]
        ours, target = (torch.cat([each[i] for each in seen]) for i in (0, 1))  # type: ignore[misc]
        q, p = ours.log_softmax(-1), target.log_softmax(-1)
        values = {
            "loss": sum(map(losses, seen)) / len(ours),
            "forward_kl": F.kl_div(q, p, log_target=True, reduction="batchmean"),
            "reverse_kl": F.kl_div(p, q, log_target=True, reduction="batchmean"),
            "top1_agreement": (q.argmax(-1) == p.argmax(-1)).double().mean(),
        }
        if family.labels != "none":
            labels = torch.cat([each.labels for each in seen])  # type: ignore[misc]
            for prefix, logits in (("", q), ("teacher_", p)):
                nll = F.nll_loss(logits, labels)
                hot = F.one_hot(labels, logits.shape[-1])
                values |= {
                    f"{prefix}nll": nll,
                    f"{prefix}perplexity": nll.exp(),
                    f"{prefix}accuracy": (logits.argmax(-1) == labels).double().mean(),
                    f"{prefix}brier": (logits.exp() - hot).square().sum(-1).mean(),
                }
    return {name: float(value) for name, value in values.items()}

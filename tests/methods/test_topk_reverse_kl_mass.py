"""500 steps of top-k reverse KL keep the probability where the teacher has it.

Without the outcome for all other tokens the same loss moves it to tokens that are not compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlight import CausalLM, DistillationModule, losses
from kdlight.losses.topk_reverse_kl import most_likely
from kdlight.objectives import LossInputs, TopKReverseKL
from tests.support import tiny_lm
from tests.support.toy import trainer

STEPS, K = 500, 5


class Truncated(TopKReverseKL):
    """The sum over the k tokens alone, as in code for on-policy distillation."""

    def divergence(self, student: Tensor, teacher: Tensor, labels: Any) -> Tensor:
        ids = most_likely(student, self.k)
        log_q, log_p = (each.log_softmax(-1).gather(-1, ids) for each in (student, teacher))
        return (log_q.exp() * (log_q - log_p)).sum(-1)


def figures(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """Mean KL from the teacher, and the student's probability outside the teacher's top tokens."""
    support = teacher.topk(2 * K, -1).indices
    outside = 1 - student.softmax(-1).gather(-1, support).sum(-1)
    return losses.forward_kl(student, teacher).mean().item(), outside.mean().item()


def fit_logits(objective: TopKReverseKL) -> tuple[tuple[float, float], ...]:
    """Logits as parameters; the figures before and after, and those of the teacher."""
    teacher = torch.randn(4, 1000)
    teacher[:, : 2 * K] += 9.0
    student = (0.6 * teacher + 0.1 * torch.randn(4, 1000)).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    before = figures(student.detach(), teacher)
    for _ in range(STEPS):
        optimizer.zero_grad()
        objective(LossInputs(student, teacher)).mean().backward()
        optimizer.step()
    return before, figures(student.detach(), teacher), figures(teacher, teacher)


def test_the_tail_of_a_distribution_is_that_of_the_teacher() -> None:
    before, after, target = fit_logits(TopKReverseKL(k=2 * K))
    assert after[0] < 0.02 * before[0]
    assert abs(after[1] - target[1]) < 0.01


def test_without_the_tail_the_probability_runs_away() -> None:
    before, after, target = fit_logits(Truncated(k=2 * K))
    assert after[0] > before[0]
    assert after[1] > 0.5 > 10 * target[1]


def network(seed: int, scale: float) -> CausalLM:
    model = tiny_lm.model(seed=seed)
    with torch.no_grad():
        model.lm_head.weight.mul_(scale)
    return CausalLM.wrap(model)


def fit_model(objective: TopKReverseKL, folder: Path) -> tuple[tuple[float, float], ...]:
    """A language model, by the real Trainer, from a student that is like its teacher."""
    teacher, student = network(1, 60.0), network(1, 25.0)
    ids = torch.randint(2, 100, (STEPS, 4, 8))
    batches = [{"input_ids": each, "labels": each} for each in ids]
    module = DistillationModule(
        student, objective, teacher, optimizer=lambda groups: torch.optim.Adam(groups, lr=2e-3)
    )

    def now() -> tuple[float, float]:
        with torch.no_grad():
            sources = (each({"input_ids": ids[0]}) for each in (student, teacher))
            return figures(*(source.logits() for source in sources))

    before = now()
    loader = torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer(folder, max_steps=STEPS).fit(module, loader)
    return before, now()


def test_a_language_model_comes_nearer_to_its_teacher(tmp_path: Path) -> None:
    before, after = fit_model(TopKReverseKL(k=K), tmp_path)
    assert after[0] < 0.3 * before[0]
    assert after[1] < 0.6 * before[1]


def test_a_language_model_without_the_tail_does_not(tmp_path: Path) -> None:
    before, after = fit_model(Truncated(k=K), tmp_path)
    assert after[0] > before[0]
    assert after[1] > before[1]

"""Small fits of a language model with a local or a served teacher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from kdlight import CausalLM, DistillationModule
from kdlight.data.loaders import train_loader
from kdlight.objectives import build_objective
from kdlight.serve import Limits, ServedTeacher, TeacherServer
from tests.support import tiny_lm

VOCABULARY = 102


def causal_lm(*, seed: int = 1, dim: int = 16) -> CausalLM:
    return CausalLM.wrap(tiny_lm.model(seed=seed, dim=dim))


class Rows(LightningDataModule):
    """Rows of random tokens of different lengths, padded on the right."""

    def __init__(self, *, size: int = 12, batch_size: int = 3, width: int = 14) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        lengths = torch.randint(5, width + 1, (size,), generator=generator).tolist()
        self.rows = [torch.randint(2, VOCABULARY, (n,), generator=generator) for n in lengths]
        self.batch_size = batch_size

    def collate(self, rows: list[Tensor]) -> dict[str, Tensor]:
        labels = pad_sequence(rows, batch_first=True, padding_value=-100)
        ids = pad_sequence(rows, batch_first=True)
        return {"input_ids": ids, "labels": labels, "attention_mask": (labels >= 0).long()}

    def train_dataloader(self) -> Any:
        return train_loader(self.rows, batch_size=self.batch_size, seed=3, collate_fn=self.collate)


def batch(count: int = 4) -> dict[str, Tensor]:
    data = Rows()
    return data.collate(data.rows[:count])


@contextmanager
def served(teacher: Any, *, states: str | None = None, k: int | None = None) -> Iterator[str]:
    """The URL of a server of a teacher in this process."""
    with TeacherServer(ServedTeacher(teacher, states=states), limits=Limits(k=k)) as server:
        yield server.url


def objective(name: str) -> Any:
    # of a teacher of which all tokens are known, the top k are compared as if k were V
    options = {"k": VOCABULARY} if name == "topk_reverse_kl" else {}
    return build_objective(name, **options)


def module(teacher: Any, name: str = "forward_kl", **options: Any) -> DistillationModule:
    student = causal_lm(seed=2, dim=8).double()
    return DistillationModule(
        student,
        objective(name),
        teacher=teacher,
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        **options,
    )


def fit(
    teacher: Any, folder: Path, *, name: str = "forward_kl", data: Any = None, **options: Any
) -> dict[str, Tensor]:
    """The student's weights after a fit."""
    made = module(teacher, name, chunked=options.pop("chunked", "auto"))
    trainer(folder, **options).fit(made, data or Rows())
    return made.student.state_dict()


def trainer(folder: Path, **options: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{**defaults, **options})


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def loss_and_gradient(teacher: Any, name: str, rows: dict[str, Tensor], **options: Any) -> Any:
    """The mean loss of a batch and the gradient of all weights of the student."""
    torch.manual_seed(0)  # of the networks of objectives
    made = module(teacher, name, **options)
    made.train()
    if isinstance(teacher, nn.Module):
        teacher.eval()
    loss = made.objective(made.loss_inputs(rows)).mean()
    loss.backward()
    grads = {n: p.grad for n, p in made.named_parameters() if p.grad is not None}
    return loss.detach(), grads

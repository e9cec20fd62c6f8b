"""The base of callbacks in which the student generates text during training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from kdlight.callbacks.generation.checks import (
    check_end,
    check_generates,
    check_prompt_tokens,
    check_strategy,
    datamodule_of,
)
from kdlight.callbacks.generation.continuation import continue_text
from kdlight.callbacks.module_check import check_module
from kdlight.models.call_network import call_network
from kdlight.models.end_tokens import end_tokens
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase
from kdlight.teachers import Teacher


class GeneratingCallback(Callback):
    """A callback whose student generates text, on which the teacher must be able to compute logits.

    Attributes:
        sampling: how the student generates.
        end: ids of the tokens that end a text; None for those of the data module's tokenizer and
            of the student's generation config.
    """

    sampling: Sampling
    end: list[int] | None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the student can generate responses, and that the teacher is a live network."""
        name = type(self).__name__
        module = check_module(name, pl_module)
        student = module.student_network()
        check_generates(name, "student", student)
        check_end(self.end)
        size = getattr(student, "vocab_size", None)
        if self.end and size is not None and max(self.end) >= size:
            raise ValueError(
                f"{name}: end has the id {max(self.end)}, but the student has {size} tokens"
            )
        if (prompt_tokens := getattr(self, "prompt_tokens", None)) is not None:
            check_prompt_tokens(name, prompt_tokens, trainer)
        teacher = module.teacher
        if isinstance(teacher, Teacher) and not teacher.networks():
            raise ValueError(
                f"{name} needs the teacher's logits for text that the student generates, but a"
                f" {type(teacher).__name__} has no network to compute them; use a live teacher"
            )
        check_strategy(name, trainer)

    def continue_text(
        self,
        trainer: Trainer,
        module: DistillationBase,
        prefixes: Sequence[Tensor],
        room: Sequence[int],
    ) -> list[Tensor]:
        """Continue each prefix by at most ``room`` tokens.

        If the student is sharded, all ranks must call this equally often, even without prefixes.
        """
        sharded = module.device_mesh is not None
        if sharded:  # gather the parameters of the root module, which `generate` does not call
            ids = torch.zeros(1, 1, dtype=torch.long, device=module.device)
            call_network(module.student_network(), {"input_ids": ids})
        elif not prefixes:
            return []
        texts = continue_text(
            module.student_network(),
            prefixes or [torch.zeros(1, dtype=torch.long)],
            room or [1],
            end=self.end_tokens(trainer, module),
            device=module.device,
            synced_gpus=sharded,
            **replace(self.sampling, max_new_tokens=None).options(),
        )
        return texts if prefixes else []

    def end_tokens(self, trainer: Trainer, module: DistillationBase) -> list[int]:
        """Return the ids of the tokens that end a text."""
        if self.end is not None:
            return self.end
        return end_tokens(
            module.student_network(), getattr(datamodule_of(trainer), "tokenizer", None)
        )

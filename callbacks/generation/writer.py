"""What lets a student write text in the middle of its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy
from torch import Tensor

from kdlight.callbacks.generation.rows import continue_text
from kdlight.modules import StandaloneModule
from kdlight.teachers import Teacher


class StudentWriter(Callback):
    """A callback whose student writes, and whose teacher can read what nobody has seen.

    Attributes:
        temperature: of sampling; 0 takes the likeliest token.
        top_p: the share of the probability to sample from.
        end: ids of tokens that end a text; None asks the data module's tokenizer and the student.
    """

    temperature: float
    top_p: float
    end: list[int] | None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out before the work whether there is somebody who writes, and one who reads."""
        name = type(self).__name__
        if not isinstance(pl_module, StandaloneModule):
            raise ValueError(f"{name} needs a DistillationModule, got {type(pl_module).__name__}")
        if not hasattr(pl_module.student, "generate"):
            raise ValueError(
                f"{name} needs a student that generates text, and"
                f" {type(pl_module.student).__name__} does not; use a kdlight.CausalLM"
            )
        teacher = pl_module.teacher
        if isinstance(teacher, Teacher) and not teacher.networks():
            raise ValueError(
                f"{name} asks the teacher about text that nobody has seen, and a"
                f" {type(teacher).__name__} knows stored text only; use a live teacher"
            )
        if isinstance(trainer.strategy, (FSDPStrategy, DeepSpeedStrategy)):
            raise ValueError(
                f"{name} cannot let a student generate under {type(trainer.strategy).__name__}; use"
                " DDP, or kdlight.distributed.FSDP2Strategy"
            )

    def continue_text(
        self,
        trainer: Trainer,
        module: StandaloneModule,
        prefixes: Sequence[Tensor],
        room: Sequence[int],
    ) -> list[Tensor]:
        """Let the student continue; where it is sharded, all ranks call as often as the others."""
        sharded = module.device_mesh is not None
        if sharded:  # the network as a whole gathers what its parts do not
            module.student({"input_ids": torch.zeros(1, 1, dtype=torch.long, device=module.device)})
        elif not prefixes:
            return []
        nothing = not prefixes
        sampled = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p}
        texts = continue_text(
            module.student,
            [torch.zeros(1, dtype=torch.long)] if nothing else prefixes,
            [1] if nothing else room,
            end=self.ends(trainer, module),
            device=module.device,
            synced_gpus=sharded,
            **({**sampled, "top_k": 0} if self.temperature else {"do_sample": False}),
        )
        return [] if nothing else texts

    def ends(self, trainer: Trainer, module: StandaloneModule) -> list[int]:
        """Ids of the tokens that end a text."""
        if self.end is not None:
            return self.end
        network = getattr(module.student, "model", module.student)
        known = getattr(getattr(network, "generation_config", None), "eos_token_id", None)
        ids = {*(known if isinstance(known, (list, tuple)) else [known])}
        ids.add(getattr(getattr(data_of(trainer), "tokenizer", None), "eos_token_id", None))
        return sorted(each for each in ids if each is not None)


def data_of(trainer: Trainer) -> Any:
    """The data module of the run, if it has one."""
    return trainer.datamodule  # type: ignore[attr-defined]

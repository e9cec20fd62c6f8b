"""The base of callbacks in which the student generates text during training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import ClassVar

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from kdlight.callbacks.generation.checks import (
    check_end,
    check_generates,
    check_prompt_tokens,
    check_strategy,
    datamodule_of,
    known_tokens,
)
from kdlight.callbacks.generation.sampled_labels import reads_sampled_labels
from kdlight.callbacks.inference.gathered_weights import gathered_weights
from kdlight.callbacks.module_check import check_module
from kdlight.models.end_tokens import end_tokens
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase
from kdlight.modules.server_errors import answered_on_all_ranks
from kdlight.rollouts import HuggingFaceRollouts, RolloutEngine, Writer
from kdlight.teachers import Teacher


class GeneratingCallback(Callback):
    """A callback whose student generates text, on which the teacher must be able to compute logits.

    Attributes:
        sampling: how the student generates.
        end: ids of the tokens that end a text; None for those of the data module's tokenizer and
            of the student's generation config.
        engine: what generates.
        changes_batches: tells a teacher on a server not to expect the batches of the loader.
    """

    changes_batches: ClassVar[bool] = True

    engine: RolloutEngine = HuggingFaceRollouts()
    sampling: Sampling
    end: list[int] | None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the student can generate responses, and the teacher score them."""
        name = type(self).__name__
        module = check_module(name, pl_module)
        student = module.student_network()
        if self.engine.runs_network:
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
        if isinstance(teacher, Teacher) and not teacher.scores_new_text:
            raise ValueError(
                f"{name} needs the teacher's logits for text that the student generates, but a"
                f" {type(teacher).__name__} cannot compute them; use a live or a served teacher"
            )
        check_strategy(name, trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the engine can generate with the student."""
        assert isinstance(pl_module, DistillationBase)
        self.engine.prepare(self.writer(trainer, pl_module))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Free what the engine holds."""
        self.engine.close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Free what the engine holds."""
        self.engine.close()

    def writer(self, trainer: Trainer, module: DistillationBase) -> Writer:
        """Return the student as an engine needs it."""
        student = module.student_network()
        return Writer(
            student,
            device=module.device,
            sharded=module.device_mesh is not None,
            weights=lambda: gathered_weights(trainer, module, student),
            as_it_is=bool(reads_sampled_labels(module)),
            vocab_size=known_tokens(student, module.teacher),
        )

    def continue_text(
        self,
        trainer: Trainer,
        module: DistillationBase,
        prefixes: Sequence[Tensor],
        room: Sequence[int],
        *,
        seed: int = 0,
    ) -> list[Tensor]:
        """Continue each prefix by at most ``room`` tokens.

        All ranks must call this equally often, even without prefixes: a student that is sharded
        generates on all of them, an engine takes over its weights, and a server that fails for one
        rank ends the run on all of them.
        """
        writer = self.writer(trainer, module)
        answered = answered_on_all_ranks(trainer, "the server of the engine")
        with nullcontext() if self.engine.runs_network else answered:
            self.engine.synchronise(writer, trainer.global_step)
            return self.engine.generate(
                writer,
                prefixes,
                room,
                sampling=self.sampling,
                seed=seed,
                end=self.end_tokens(trainer, module),
            )

    def end_tokens(self, trainer: Trainer, module: DistillationBase) -> list[int]:
        """Return the ids of the tokens that end a text."""
        if self.end is not None:
            return self.end
        return end_tokens(
            module.student_network(), getattr(datamodule_of(trainer), "tokenizer", None)
        )

"""Print continuations of prompts by the student before and after training, and by the teacher."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from kdlight.callbacks.generation.checks import check_generates, check_tokenizer, datamodule_of
from kdlight.checks import check_integer, check_type
from kdlight.models.end_tokens import end_tokens
from kdlight.models.evaluating import evaluating
from kdlight.modules.base import DistillationBase
from kdlight.rollouts.continuation import continue_text
from kdlight.teachers import Teacher

SHARDING = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)
"""Strategies that shard the student, so that one rank alone cannot run it."""

PROMPTS = ("The assignment statement", "An exception is raised when")


class GenerationSamples(Callback):
    """Continues prompts greedily before and after training and prints the texts below each other.

    Only the first rank generates. Under a strategy that shards the student the callback warns and
    does nothing.

    Args:
        prompts: texts to continue.
        max_new_tokens: length of a continuation in tokens.

    Raises:
        ValueError: The student or the teacher cannot generate, or the data module has no tokenizer.

    Example:
        >>> GenerationSamples(["Once upon a time"], max_new_tokens=8).prompts
        ['Once upon a time']
    """

    def __init__(self, prompts: list[str] | None = None, max_new_tokens: int = 24) -> None:
        check_integer("max_new_tokens", max_new_tokens, 1)
        check_type("prompts", prompts, (list, tuple, type(None)), "a list of texts")
        for prompt in prompts or ():
            check_type("prompts", prompt, str, "a list of texts")
        self.prompts = list(prompts or PROMPTS)
        self.max_new_tokens = max_new_tokens
        self.before: list[str] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that student and teacher can generate, and that there is a tokenizer."""
        check_generates("GenerationSamples", "student", _student_network(pl_module))
        check_generates("GenerationSamples", "teacher", _teacher_network(pl_module))
        check_tokenizer("GenerationSamples", trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue the prompts with the untrained student."""
        if isinstance(trainer.strategy, SHARDING):
            rank_zero_warn(
                "GenerationSamples has no effect: one rank alone cannot run a sharded student"
            )
        elif self.before is None and trainer.is_global_zero:
            self.before = self._continue(trainer, pl_module, _student_network(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue the prompts with the trained student and with the teacher, and print."""
        if trainer.is_global_zero and not isinstance(trainer.strategy, SHARDING):
            after = self._continue(trainer, pl_module, _student_network(pl_module))
            teacher = self._continue(trainer, pl_module, _teacher_network(pl_module))
            self._print(self.before or [], after, teacher)

    def _continue(self, trainer: Trainer, module: LightningModule, model: Any) -> list[str]:
        tokenizer = datamodule_of(trainer).tokenizer
        texts = []
        with torch.no_grad(), evaluating(model):
            for prompt in self.prompts:
                ids = tokenizer(prompt, return_tensors="pt").input_ids[0]
                (out,) = continue_text(
                    model,
                    [ids],
                    [self.max_new_tokens],
                    end=end_tokens(model, tokenizer),
                    device=module.device,
                    do_sample=False,
                )
                texts.append(tokenizer.decode(out[len(ids) :], skip_special_tokens=True))
        return texts

    @rank_zero_only
    def _print(self, before: list[str], after: list[str], teacher: list[str]) -> None:
        for i, prompt in enumerate(self.prompts):
            print(f"\n> {prompt} ...")
            for name, texts in (("before", before), ("after", after), ("teacher", teacher)):
                text = texts[i].strip() or "(no visible text)"
                print(fill(text, 96, initial_indent=f"  {name:8}", subsequent_indent=" " * 10))

    def state_dict(self) -> dict[str, Any]:
        """Return the texts of the untrained student."""
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the texts of the untrained student."""
        self.before = state_dict["before"]


def _student_network(module: LightningModule) -> Any:
    if isinstance(module, DistillationBase):
        return module.student_network()
    return getattr(module, "student", None)


def _teacher_network(module: LightningModule) -> Any:
    teacher = getattr(module, "teacher", None)
    networks = teacher.networks() if isinstance(teacher, Teacher) else []
    return networks[0] if len(networks) == 1 else None

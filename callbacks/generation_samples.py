"""The same prompts continued by the student before and after training, and by the teacher."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from kdlight.callbacks.report.evaluation import eval_mode
from kdlight.teachers import Teacher

SHARDING = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)
PROMPTS = ("The assignment statement", "An exception is raised when")


class GenerationSamples(Callback):
    """Continues prompts greedily before and after training and prints the texts side by side.

    One rank does it, so it stays silent where a strategy divides the student among the ranks.

    Args:
        prompts: texts to continue.
        max_new_tokens: length of a continuation in tokens.

    Raises:
        ValueError: the student or the teacher cannot generate, or there is no tokenizer.

    Example:
        >>> GenerationSamples(["Once upon a time"], max_new_tokens=8).prompts
        ['Once upon a time']
    """

    def __init__(self, prompts: list[str] | None = None, max_new_tokens: int = 24) -> None:
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {max_new_tokens}")
        self.prompts = list(prompts or PROMPTS)
        self.max_new_tokens = max_new_tokens
        self.before: list[str] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find out before the work whether there is something that generates."""
        teacher = _teacher_network(pl_module)
        for name, model in (("student", getattr(pl_module, "student", None)), ("teacher", teacher)):
            if not hasattr(model, "generate"):
                raise ValueError(
                    f"GenerationSamples needs a {name} that generates text, and"
                    f" {type(model).__name__} does not; leave the callback out"
                )
        if not hasattr(trainer.datamodule, "tokenizer"):  # type: ignore[attr-defined]
            raise ValueError(
                "GenerationSamples takes the tokenizer from the datamodule, which has none; use a"
                " kdlight.data.TextDataModule or one with a `tokenizer`, or leave the callback out"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the untrained student speak."""
        if isinstance(trainer.strategy, SHARDING):
            rank_zero_warn(
                "GenerationSamples stays silent: one rank alone cannot run a sharded student"
            )
        elif self.before is None and trainer.is_global_zero:
            self.before = self._continue(trainer, pl_module, pl_module.student)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the trained student and the teacher speak, and print."""
        if trainer.is_global_zero and not isinstance(trainer.strategy, SHARDING):
            after = self._continue(trainer, pl_module, pl_module.student)
            teacher = self._continue(trainer, pl_module, _teacher_network(pl_module))
            self._print(self.before or [], after, teacher)

    def _continue(self, trainer: Trainer, module: LightningModule, model: Any) -> list[str]:
        tokenizer = trainer.datamodule.tokenizer  # type: ignore[attr-defined]
        texts = []
        with torch.no_grad(), eval_mode(model):
            for prompt in self.prompts:
                ids = tokenizer(prompt, return_tensors="pt").input_ids.to(module.device)
                out = model.generate(ids, max_new_tokens=self.max_new_tokens, do_sample=False)
                texts.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))
        return texts

    @rank_zero_only
    def _print(self, before: list[str], after: list[str], teacher: list[str]) -> None:
        for i, prompt in enumerate(self.prompts):
            print(f"\n> {prompt} ...")
            for name, texts in (("before", before), ("after", after), ("teacher", teacher)):
                text = texts[i].strip() or "(nothing to be seen)"
                print(fill(text, 96, initial_indent=f"  {name:8}", subsequent_indent=" " * 10))

    def state_dict(self) -> dict[str, Any]:
        """What the untrained student said."""
        return {"before": self.before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it over a resume."""
        self.before = state_dict["before"]


def _teacher_network(module: LightningModule) -> Any:
    teacher = getattr(module, "teacher", None)
    networks = teacher.networks() if isinstance(teacher, Teacher) else []
    return networks[0] if len(networks) == 1 else None

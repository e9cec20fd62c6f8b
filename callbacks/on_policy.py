"""Train on text that the student itself generates."""

from __future__ import annotations

from collections.abc import MutableMapping
from hashlib import sha256
from math import inf
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from kdlight.callbacks.generation.checks import check_end, datamodule_of
from kdlight.callbacks.generation.generating_callback import GeneratingCallback
from kdlight.callbacks.generation.rows import Row, put_rows, take_rows
from kdlight.callbacks.generation.sampled_labels import (
    check_sampled_labels,
    check_temperatures,
    only_sampled,
    reads_sampled_labels,
)
from kdlight.callbacks.inference.context import inference_context
from kdlight.callbacks.resume.trained_state import TrainedState
from kdlight.checks import check_integer, check_range, check_type
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase
from kdlight.rollouts import HuggingFaceRollouts, RolloutEngine
from kdlight.schedules import Schedule


class OnPolicy(GeneratingCallback):
    """Replaces the responses in a fraction of the training batches by the student's own.

    Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated
    Mistakes", 2024 (generalised knowledge distillation). Choose it to reduce the mismatch between
    the text that a student is trained on and the text that it generates later. It works with any
    objective and any live or served teacher. With ``refresh_every`` above 1 it is off-policy: most
    batches are then drawn from a buffer of earlier responses, which costs no generation.

    Before such a batch the student continues its prompts. A prompt is what precedes the first valid
    label, or the first ``prompt_tokens`` tokens of plain text. The batch then holds prompts and new
    responses, and only the responses are valid. A row without a prompt, without a response, or
    without room for one is not changed; for a `kdlight.objectives.SampledReverseKL`, which reads
    labels as tokens of the student, it does not count. The tensors of the batch are replaced, so
    the loss, the metrics and other callbacks get the new ones.

    Which batches are replaced depends on the seed alone, and is the same on all ranks. What is
    sampled depends on the seed, the batch and the rank. The global random generators are not
    changed. Counters and buffer are saved with checkpoints.

    Logged as ``train/on_policy/...``, for this rank: ``share`` of the rows that were replaced,
    their mean ``length``, and ``ended``, the share of responses that have an end token; and what
    the engine measures, as ``train/rollouts/...``.

    Args:
        fraction: of the batches that are replaced, in [0, 1], or a schedule of it over the run,
            such as ``kdlight.schedules.Linear(0.0, 1.0)``.
        sampling: how the student generates. Without ``max_new_tokens`` a response is as long as the
            width of the batch allows.
        prompt_tokens: length of the prompt of plain text.
        refresh_every: generate for every ``refresh_every``-th replaced batch, and draw the others
            from the buffer.
        capacity: number of rows in the buffer; the oldest are dropped first.
        end: ids of the tokens that end a text; None for those of the data module's tokenizer and
            of the student's generation config.
        engine: what generates, such as a `kdlight.rollouts.VLLMRollouts`; None for the student's
            own ``generate``.

    Raises:
        ValueError: A number outside its range; a student that does not generate; a teacher that
            cannot compute logits for new text; FSDP1 or DeepSpeed, under which a student
            cannot generate; an objective on tokens of the student that would get others.

    Example:
        >>> OnPolicy(fraction=0.5, sampling=Sampling(max_new_tokens=32)).refresh_every
        1
    """

    def __init__(
        self,
        fraction: float | Schedule = 1.0,
        sampling: Sampling = Sampling(),  # noqa: B008
        prompt_tokens: int = 16,
        refresh_every: int = 1,
        capacity: int = 1000,
        end: list[int] | None = None,
        engine: RolloutEngine | None = None,
    ) -> None:
        if not isinstance(fraction, Schedule):
            check_type(
                "fraction", fraction, (int, float), "a number or a kdlight.schedules.Schedule"
            )
            check_range("fraction", fraction, 0.0, 1.0)
        check_type("sampling", sampling, Sampling, "a kdlight.models.Sampling")
        check_integer("prompt_tokens", prompt_tokens, 1)
        check_integer("refresh_every", refresh_every, 1)
        check_integer("capacity", capacity, 1)
        check_end(end)
        self.fraction, self.sampling, self.prompt_tokens = fraction, sampling, prompt_tokens
        self.refresh_every, self.capacity = refresh_every, capacity
        self.end = None if end is None else list(end)
        check_type(
            "engine",
            engine,
            (RolloutEngine, type(None)),
            "a kdlight.rollouts.RolloutEngine or None",
        )
        self.engine = HuggingFaceRollouts() if engine is None else engine
        self.batches = self.replaced = 0
        self.buffer: list[Row] = []
        self.figures: dict[str, float] = {}
        self._trained = TrainedState(self)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the run, and that an objective on sampled tokens gets no others."""
        super().setup(trainer, pl_module, stage)
        revised = type(self).generate_responses is not OnPolicy.generate_responses
        check_sampled_labels(self, pl_module, revised=revised)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Replace the sequences of the batch, if it is drawn."""
        assert isinstance(pl_module, DistillationBase)
        if not isinstance(batch, MutableMapping) or "input_ids" not in batch:
            raise ValueError(
                f"{type(self).__name__} needs batches that are mappings with 'input_ids', got"
                f" {type(batch).__name__}"
            )
        self.figures = {}
        draw = torch.Generator().manual_seed(self._seed(0))
        self.batches += 1
        if torch.rand((), generator=draw).item() >= self._fraction(trainer):
            return
        rows = take_rows(
            batch, prompt_tokens=self.prompt_tokens, max_new_tokens=self.sampling.max_new_tokens
        )
        fresh, self.replaced = self.replaced % self.refresh_every == 0, self.replaced + 1
        if fresh:
            with inference_context(trainer, pl_module):
                rows = self.generate_responses(trainer, pl_module, batch, rows)
            figures = self.engine.metrics().items()
            self.figures.update({f"rollouts/{name}": value for name, value in figures})
            generated = [row for row in rows if row.prompt]
            self.buffer = [*self.buffer, *generated][-self.capacity :]
        elif self.buffer:
            draw.manual_seed(self._seed(1 + trainer.global_rank))
            chosen = torch.randint(len(self.buffer), (len(rows),), generator=draw)
            rows = generated = [self.buffer[i] for i in chosen.tolist()]
        else:
            return
        if reads_sampled_labels(pl_module):
            rows = only_sampled(rows)
        put_rows(batch, rows, getattr(datamodule_of(trainer), "span_ids", None))
        self._count(trainer, pl_module, rows, generated)

    def generate_responses(
        self,
        trainer: Trainer,
        module: DistillationBase,
        batch: MutableMapping[str, Any],
        rows: list[Row],
    ) -> list[Row]:
        """Return the rows with responses that the student generates; a subclass may revise them."""
        indices = [i for i, row in enumerate(rows) if row.prompt]
        prefixes = [rows[i].ids[: rows[i].prompt] for i in indices]
        room = [rows[i].limit - rows[i].prompt for i in indices]
        seed = self.text_seed(trainer)
        texts = self.continue_text(trainer, module, prefixes, room, seed=seed)
        for i, text in zip(indices, texts, strict=True):
            rows[i] = rows[i].respond(text)
        return rows

    def text_seed(self, trainer: Trainer, number: int = 0) -> int:
        """Return the seed of the texts of this rank that are generated as the n-th for a batch."""
        stream = 1 + trainer.global_rank
        return self._seed(f"{stream}:{number}" if number else stream)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log statistics of the responses."""
        for name, value in self.figures.items():
            pl_module.log(f"train/{name}", value)
        self._trained.keep(trainer)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Check that no callback has changed the temperature of an objective on sampled tokens."""
        check_temperatures(self, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the state without what a resumed run repeats, such as a batch that failed."""
        self._trained.save(trainer, checkpoint)

    def _count(
        self, trainer: Trainer, module: DistillationBase, rows: list[Row], generated: list[Row]
    ) -> None:
        self.figures["on_policy/share"] = len(generated) / len(rows)
        if generated:
            ends = self.end_tokens(trainer, module)
            lengths = [len(row.ids) - row.prompt for row in generated]
            self.figures["on_policy/length"] = sum(lengths) / len(generated)
            ended = [int(row.ids[-1]) in ends for row in generated]
            self.figures["on_policy/ended"] = sum(ended) / len(generated)

    def _fraction(self, trainer: Trainer) -> float:
        if not isinstance(self.fraction, Schedule):
            return self.fraction
        total = trainer.estimated_stepping_batches
        return self.fraction(trainer.global_step, total if total > 0 else inf)

    def _seed(self, stream: int | str) -> int:
        # a hash, so that the seeds of batches and ranks are not correlated
        name = f"{self.sampling.seed}:{self.batches}:{stream}"
        return int(sha256(name.encode()).hexdigest()[:15], 16)

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of batches and replaced batches, and the buffer."""
        rows = [(row.ids, row.labels, row.prompt, row.limit) for row in self.buffer]
        return {"batches": self.batches, "replaced": self.replaced, "buffer": rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counters and the buffer."""
        self.batches, self.replaced = state_dict["batches"], state_dict["replaced"]
        self.buffer = [Row(*each) for each in state_dict["buffer"]]
        self._trained = TrainedState(self)

"""Training on what the student itself writes."""

from __future__ import annotations

from collections.abc import MutableMapping
from hashlib import sha256
from math import inf
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from kdlight.callbacks.generation.rows import Row, put_rows, take_rows
from kdlight.callbacks.generation.writer import StudentWriter, data_of
from kdlight.callbacks.report.evaluation import measuring
from kdlight.losses.checks import check_range
from kdlight.modules import StandaloneModule
from kdlight.schedules import Law


class OnPolicy(StudentWriter):
    """Replaces the responses of a fraction of the training batches by the student's own.

    Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated
    Mistakes", 2024 (generalised knowledge distillation). Choose it against the gap between the text
    that a student learns on and the text that it will write; any objective with a live teacher
    goes with it. ``refresh_every`` above 1 is the off-policy form: most batches are then drawn from
    a buffer of earlier responses, which costs no generation.

    Before such a batch the student continues its prompts (what stands before the first label that
    counts; the first ``prompt_tokens`` of plain text), and the batch holds prompts and responses
    instead: only responses count. A row without a prompt, without a response, or without room for
    one stays as it is. The batch's tensors are replaced, so that the loss, the metrics and other
    callbacks see the new ones. Which batches are replaced depends on ``seed`` alone, the same on
    all ranks, and what is sampled on ``seed``, the batch and the rank: other random numbers of the
    run are left alone. Counters and buffer are saved with checkpoints.

    Logged as ``train/on_policy/...``, of this rank: ``share`` of replaced rows, their ``length``,
    and ``ended``, the share of responses that came to an end.

    Args:
        fraction: of the batches that are replaced, in [0, 1], or a law of it over the run, such as
            ``kdlight.schedules.Linear(0.0, 1.0)``.
        max_new_tokens: length of a response; None for what the width of the batch leaves.
        prompt_tokens: tokens of plain text that make a prompt.
        temperature: of sampling; 0 takes the likeliest token.
        top_p: the share of the probability to sample from.
        refresh_every: write anew for every so manieth batch that is replaced, and draw the others
            from the buffer.
        capacity: rows that the buffer keeps; the oldest go first.
        end: ids of tokens that end a text; None asks the data module's tokenizer and the student.
        seed: of all that is drawn.

    Raises:
        ValueError: a number outside its range; a student that does not generate; a teacher that
            does not know new text; FSDP1 or DeepSpeed, under which a student cannot generate.

    Example:
        >>> OnPolicy(fraction=0.5, max_new_tokens=32).refresh_every
        1
    """

    def __init__(
        self,
        fraction: float | Law = 1.0,
        max_new_tokens: int | None = None,
        prompt_tokens: int = 16,
        temperature: float = 1.0,
        top_p: float = 1.0,
        refresh_every: int = 1,
        capacity: int = 1000,
        end: list[int] | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(fraction, Law):
            check_range("fraction", fraction, 0.0, 1.0)
        for name, size in (
            ("max_new_tokens", max_new_tokens),
            ("prompt_tokens", prompt_tokens),
            ("refresh_every", refresh_every),
            ("capacity", capacity),
        ):
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if not 0 <= temperature < inf:
            raise ValueError(f"temperature must be finite and not negative, got {temperature}")
        if not 0 < top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {top_p}")
        self.fraction, self.seed = fraction, seed
        self.max_new_tokens, self.prompt_tokens = max_new_tokens, prompt_tokens
        self.temperature, self.top_p = temperature, top_p
        self.refresh_every, self.capacity = refresh_every, capacity
        self.end = None if end is None else list(end)
        self.batches = self.replaced = 0
        self.buffer: list[Row] = []
        self.figures: dict[str, float] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Replace the batch, if it is its turn."""
        assert isinstance(pl_module, StandaloneModule)
        if not isinstance(batch, MutableMapping) or "input_ids" not in batch:
            raise ValueError(
                f"{type(self).__name__} reads a mapping with 'input_ids', got"
                f" {type(batch).__name__}"
            )
        self.figures = {}
        draw = torch.Generator().manual_seed(self._seed(0))
        self.batches += 1
        if torch.rand((), generator=draw).item() >= self._fraction(trainer):
            return
        rows = take_rows(
            batch, prompt_tokens=self.prompt_tokens, max_new_tokens=self.max_new_tokens
        )
        fresh, self.replaced = self.replaced % self.refresh_every == 0, self.replaced + 1
        if fresh:
            with measuring(trainer, pl_module):
                torch.manual_seed(self._seed(1 + trainer.global_rank))
                rows = self.write(trainer, pl_module, batch, rows)
            written = [row for row in rows if row.prompt]
            self.buffer = [*self.buffer, *written][-self.capacity :]
        elif self.buffer:
            draw.manual_seed(self._seed(1 + trainer.global_rank))
            chosen = torch.randint(len(self.buffer), (len(rows),), generator=draw)
            rows = written = [self.buffer[i] for i in chosen.tolist()]
        else:
            return
        put_rows(batch, rows, getattr(data_of(trainer), "span_ids", None))
        self._count(trainer, pl_module, rows, written)

    def write(
        self,
        trainer: Trainer,
        module: StandaloneModule,
        batch: MutableMapping[str, Any],
        rows: list[Row],
    ) -> list[Row]:
        """The rows with responses of the student's; a subclass may have more to say to them."""
        asked = [i for i, row in enumerate(rows) if row.prompt]
        prefixes = [rows[i].ids[: rows[i].prompt] for i in asked]
        room = [rows[i].limit - rows[i].prompt for i in asked]
        texts = self.continue_text(trainer, module, prefixes, room)
        for i, text in zip(asked, texts, strict=True):
            rows[i] = rows[i].respond(text)
        return rows

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log what was written."""
        for name, value in self.figures.items():
            pl_module.log(f"train/{name}", value)

    def _count(
        self, trainer: Trainer, module: StandaloneModule, rows: list[Row], written: list[Row]
    ) -> None:
        self.figures["on_policy/share"] = len(written) / len(rows)
        if written:
            ends = self.ends(trainer, module)
            lengths = [len(row.ids) - row.prompt for row in written]
            self.figures["on_policy/length"] = sum(lengths) / len(written)
            ended = [int(row.ids[-1]) in ends for row in written]
            self.figures["on_policy/ended"] = sum(ended) / len(written)

    def _fraction(self, trainer: Trainer) -> float:
        if not isinstance(self.fraction, Law):
            return self.fraction
        total = trainer.estimated_stepping_batches
        return self.fraction(trainer.global_step, total if total > 0 else inf)

    def _seed(self, place: int) -> int:
        # one for each batch and rank, none of them near another
        name = f"{self.seed}:{self.batches}:{place}"
        return int(sha256(name.encode()).hexdigest()[:15], 16)

    def state_dict(self) -> dict[str, Any]:
        """How many batches were seen and replaced, and the buffer."""
        rows = [(row.ids, row.labels, row.prompt, row.limit) for row in self.buffer]
        return {"batches": self.batches, "replaced": self.replaced, "buffer": rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.batches, self.replaced = state_dict["batches"], state_dict["replaced"]
        self.buffer = [Row(*each) for each in state_dict["buffer"]]

"""Traces of a teacher as a Lightning data module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.encode import Limits, encode
from kdlight.data.traces.loaders import eval_batches, train_batches
from kdlight.data.traces.readers import read_traces
from kdlight.data.traces.record import Trace
from kdlight.data.traces.rows import Kind, TraceRows, draw, group
from kdlight.models import load_tokenizer


class TracesDataModule(LightningDataModule):
    """Right and wrong answers of a teacher, split into training and validation by prompt.

    Batches are dicts of ``input_ids``, ``attention_mask``, ``labels`` ``(B, T)``, scored on the
    response alone, and ``rejected`` ``(B,)``. Everything is a function of the arguments: each
    process reads and splits the same way.

    Args:
        tokenizer: where the tokenizer is, spelled like the ``source`` of a `kdlight.CausalLM`; or
            a tokenizer.
        files: traces, see `kdlight.data.read_traces`.
        kind: ``"positives"`` for right traces alone (the first stage of REDI), ``"pairs"`` for a
            right and a wrong one of each prompt, ``"unpaired"`` for all.
        validation_files: traces to validate on, instead of a part of ``files``.
        validation_kind: what to validate on. A perplexity of wrong answers tells little; DPO and
            SimPO have no value without ``"pairs"``.
        threshold: the least score of a right trace; one without a score counts as right.
        select: from all traces to those to use, such as an operator of `kdlight.data.traces`.
        chat: put prompts into the tokenizer's chat template; None if it has one.
        max_prompt: drop traces whose prompt has more tokens.
        max_completion: drop traces whose response has more tokens.
        max_length: cut right traces to so many tokens, drop wrong ones that are longer.
        per_prompt: at most so many samples of a prompt; None for all.
        mask_shared_prefix: leave unscored what a wrong response begins with as its partner does.
        mask_end: leave the end-of-text token of wrong responses unscored.
        batch_size: samples of a training batch; a pair is one sample and two sequences.
        eval_batch_size: samples of a validation batch; None for ``batch_size``.
        validation_fraction: part of the prompts to validate on; 0 for none.
        seed: draws the validation prompts and the order of the samples.
        num_workers: worker processes; the ids lie in memory, so 0 is quick.

    Raises:
        ValueError: an argument out of range; at setup, files that are missing or hold no such
            traces, with the number of those that were dropped.

    Example:
        >>> data = TracesDataModule("HuggingFaceTB/SmolLM2-135M", "traces.jsonl", kind="pairs")
        >>> data.kind  # nothing is read before setup
        'pairs'
    """

    def __init__(
        self,
        tokenizer: str | Callable[..., Any],
        files: list[str] | str,
        *,
        kind: Kind = "positives",
        validation_files: list[str] | str | None = None,
        validation_kind: Kind = "positives",
        threshold: float = 0.9,
        select: Callable[[list[Trace]], list[Trace]] | None = None,
        chat: bool | None = None,
        max_prompt: int | None = None,
        max_completion: int | None = None,
        max_length: int | None = None,
        per_prompt: int | None = 1,
        mask_shared_prefix: bool = False,
        mask_end: bool = False,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        validation_fraction: float = 0.05,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if not 0.0 <= validation_fraction < 1.0:
            raise ValueError(f"validation_fraction must be in [0, 1), got {validation_fraction}")
        for name, size in (
            ("batch_size", batch_size),
            ("eval_batch_size", eval_batch_size),
            ("per_prompt", per_prompt),
        ):
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        for name, each in (("kind", kind), ("validation_kind", validation_kind)):
            if each not in ("positives", "pairs", "unpaired"):
                raise ValueError(f"{name} must be positives, pairs or unpaired, got {each!r}")
        self.tokenizer_source = tokenizer
        self.files, self.validation_files = files, validation_files
        self.kind: Kind = kind
        self.validation_kind: Kind = validation_kind
        self.threshold, self.select, self.chat = threshold, select, chat
        self.limits = Limits(prompt=max_prompt, completion=max_completion, length=max_length)
        self.per_prompt = per_prompt
        self.masks = {"mask_shared_prefix": mask_shared_prefix, "mask_end": mask_end}
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.num_workers = num_workers
        self.summary: dict[str, int] = {}
        self._rows: tuple[TraceRows, TraceRows] | None = None

    @cached_property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, loaded when it is first asked for."""
        source = self.tokenizer_source
        return load_tokenizer(source) if isinstance(source, str) else source

    def setup(self, stage: str | None = None) -> None:
        """Read, select, split and encode the traces, once."""
        if self._rows is not None:
            return
        traces = read_traces(self.files)
        self.summary["read"] = len(traces)
        if self.select is not None:
            traces = self.select(traces)
            self.summary["selected"] = len(traces)
        if self.validation_files is not None:
            held_out = read_traces(self.validation_files)
            names = {trace.prompt_id for trace in held_out}
        else:
            names = draw({t.prompt_id for t in traces}, self.validation_fraction, self.seed)
            held_out = [trace for trace in traces if trace.prompt_id in names]
        training = [trace for trace in traces if trace.prompt_id not in names]
        self._rows = (
            self._samples(training, self.kind, "training"),
            self._samples(held_out, self.validation_kind, "validation"),
        )
        self._check_context()
        counts = ", ".join(f"{name} {count}" for name, count in self.summary.items())
        rank_zero_info(f"traces: {counts}")

    def _samples(self, traces: Sequence[Trace], kind: Kind, part: str) -> TraceRows:
        encoded, fates = encode(
            traces,
            self.tokenizer,
            threshold=self.threshold,
            chat=uses_chat(self.tokenizer, self.chat),
            limits=self.limits,
        )
        samples = group(encoded, kind=kind, per_prompt=self.per_prompt)
        if not samples and (traces or part == "training"):
            raise ValueError(
                f"files={self.files!r} give no {kind} for {part}: of {len(traces)} traces"
                f" {sum(t.rejected for t in encoded)} are wrong, by fate {dict(fates)}"
            )
        self.summary |= {f"{part}: {fate}": count for fate, count in sorted(fates.items())}
        self.summary[f"{part}: {kind}"] = len(samples)
        return TraceRows(samples, kind=kind, **self.masks)

    def _check_context(self) -> None:
        longest = max((rows.longest for rows in self._both()), default=0)
        student = getattr(self.trainer and self.trainer.lightning_module, "student", None)
        context = getattr(student, "context_length", None)
        if context is not None and longest > context:
            raise ValueError(
                f"the longest trace has {longest} tokens, but the context of the student is"
                f" {context}; set max_length to {context} or less"
            )

    @property
    def train_rows(self) -> TraceRows:
        """The samples to train on."""
        return self._both()[0]

    @property
    def validation_rows(self) -> TraceRows:
        """The samples to validate and test on."""
        return self._both()[1]

    def _both(self) -> tuple[TraceRows, TraceRows]:
        self.setup()
        assert self._rows is not None
        return self._rows

    def train_dataloader(self) -> DataLoader:
        """Training samples, in an order of their own every epoch."""
        return train_batches(
            self.train_rows,
            batch_size=self.batch_size,
            seed=self.seed,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """Validation samples, in order; the ranks get as many each."""
        if not len(self.validation_rows):
            return []
        return eval_batches(
            self.validation_rows,
            trainer=self.trainer,
            batch_size=self.eval_batch_size,
            num_workers=self.num_workers,
        )

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """The validation samples."""
        return self.val_dataloader()

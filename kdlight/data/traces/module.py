"""Traces of a teacher as a Lightning data module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from numbers import Real
from typing import Any, Literal, NamedTuple

from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader

from kdlight.checks import check_choice, check_integer, check_range, check_type
from kdlight.data.context_check import check_contexts
from kdlight.data.files import file_names
from kdlight.data.loaders import train_loader
from kdlight.data.split_module import SplitDataModule
from kdlight.data.splits import sample_prompts
from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.curriculum import Curriculum, check_curriculum, curriculum_sampler
from kdlight.data.traces.encode import LOSS_ON, EncodedTrace, Limits, LossOn, encode
from kdlight.data.traces.operators.compose import Compose, table
from kdlight.data.traces.prompt_groups import CORRECT
from kdlight.data.traces.readers import read_traces
from kdlight.data.traces.samples import (
    KINDS,
    Kind,
    TraceDataset,
    collate_samples,
    group_samples,
)
from kdlight.data.traces.stopping import warn_of_turn_end
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number
from kdlight.models.pretrained import as_tokenizer


class Parts(NamedTuple):
    """Traces to train and to validate on."""

    training: list[Trace]
    validation: list[Trace]


class TracesDataModule(SplitDataModule):
    """Chosen and rejected responses of a teacher, split by prompt into training and validation.

    Batches are dicts of ``input_ids``, ``attention_mask``, ``labels`` ``(B, T)``, valid on the
    response only, and ``rejected`` ``(B,)``. The data are a function of the arguments: every
    process reads and splits them alike.

    Args:
        tokenizer: location of the tokenizer, like the ``source`` of a `kdlight.CausalLM`; or a
            tokenizer.
        files: traces, see `kdlight.data.read_traces`.
        kind: ``"positives"`` for chosen traces only (the first stage of REDI), ``"pairs"`` for a
            chosen and a rejected trace of each prompt, ``"unpaired"`` for all.
        validation_files: traces to validate on, instead of a part of ``files``.
        validation_kind: kind of the validation samples. The perplexity of rejected responses says
            little about a student; DPO and SimPO have no value without ``"pairs"``.
        threshold: the smallest score of a chosen trace; a trace without a score is chosen.
        select: operators of `kdlight.data.traces` that select among ``files``, each a name or a
            mapping of a name to parameters, such as ``[{"shortest_correct": {"n": 2}}]``; or a
            function of all traces that returns those to use. Operators have a ``threshold`` of
            their own, and do not see ``validation_files``.
        chat: whether to apply the chat template of the tokenizer; None if it has one.
        loss_on: ``"response"`` scores the response only; ``"assistant"`` also the earlier turns of
            the assistant, with tool calls and the end of each turn. System, user and the results of
            tools are never scored.
        max_prompt: drop traces whose prompt has more tokens.
        max_completion: drop traces whose response has more tokens.
        max_length: cut chosen traces to this number of tokens, drop longer rejected ones.
        per_prompt: maximal number of samples per prompt; None for all. By default one, but all with
            ``select``, which chooses them, and with ``curriculum``, which orders them.
        curriculum: ``"long_to_short"`` trains on one response of each prompt per epoch, the longest
            in the first epoch, and shorter ones in those that follow, the shortest in the last, as
            CoT-Valve does (Ma et al.,
            "CoT-Valve: Length-Compressible Chain-of-Thought Tuning", 2025); ``"short_to_long"``
            reverses this. There are as many lengths as the prompt with the most responses has, at
            most one per epoch; later epochs repeat the last one. Only for ``"positives"``.
        mask_shared_prefix: ignore the tokens with which a rejected response starts like the chosen
            one.
        mask_end: ignore the end-of-text token of rejected responses.
        batch_size: number of samples in a training batch; a pair is one sample of two sequences.
        eval_batch_size: number of samples in a validation batch; None for ``batch_size``.
        validation_fraction: fraction of the prompts to validate on; 0 for no validation.
        seed: seed of the split and of the order of the samples.
        num_workers: number of worker processes; the token ids are in memory, so 0 is fast.

    Attributes:
        traces: the traces to train and to validate on, once they are read.
        summary: numbers of traces by what became of them.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an argument is out of range; at setup, if files are missing or hold no traces
            of this kind, with the numbers of traces that were dropped, or if a trace is longer than
            the context of the student or a teacher.

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
        threshold: float = CORRECT,
        # dict[str, Any] would be read anew in a config, where "[long]" would become a list
        select: list[str | dict] | Callable[[list[Trace]], list[Trace]] | None = None,
        chat: bool | None = None,
        loss_on: LossOn = "response",
        max_prompt: int | None = None,
        max_completion: int | None = None,
        max_length: int | None = None,
        per_prompt: int | Literal["auto"] | None = "auto",
        curriculum: Curriculum | None = None,
        mask_shared_prefix: bool = False,
        mask_end: bool = False,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        validation_fraction: float = 0.05,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            seed=seed,
            num_workers=num_workers,
        )
        check_type("validation_fraction", validation_fraction, Real, "a number")
        check_range("validation_fraction", validation_fraction, 0, 1, open_high=True)
        check_number("threshold", threshold)
        if per_prompt not in ("auto", None):
            check_integer("per_prompt", per_prompt, 1)
        check_choice("kind", kind, KINDS)
        check_choice("validation_kind", validation_kind, KINDS)
        check_choice("loss_on", loss_on, LOSS_ON)
        for name, names in (("files", files), ("validation_files", validation_files)):
            if names is not None or name == "files":
                file_names(name, names)
        check_type("chat", chat, (bool, type(None)), "true, false or None")
        check_type("tokenizer", tokenizer, (str, Callable), "a location or a tokenizer")
        self.tokenizer_source = tokenizer
        self.files, self.validation_files = files, validation_files
        self.kind: Kind = kind
        self.validation_kind: Kind = validation_kind
        self.threshold, self.chat = threshold, chat
        self.loss_on: LossOn = loss_on
        self.select = None if select is None else Compose([select] if callable(select) else select)
        self.limits = Limits(prompt=max_prompt, completion=max_completion, length=max_length)
        if curriculum is not None:
            check_curriculum(curriculum, kind=kind, per_prompt=per_prompt)
        self.curriculum: Curriculum | None = curriculum
        chosen = 1 if select is None and curriculum is None else None
        self.per_prompt = chosen if per_prompt == "auto" else per_prompt
        self.masks = {"mask_shared_prefix": mask_shared_prefix, "mask_end": mask_end}
        self.validation_fraction = validation_fraction
        self.summary: dict[str, int] = {}
        self.traces = Parts([], [])
        self._added: list[tuple[int, list[EncodedTrace]]] = []

    @cached_property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer, loaded on first access."""
        return as_tokenizer(self.tokenizer_source)

    def collate_fn(self) -> Callable[[list[Any]], Any]:
        """Return the collator of sequences of different lengths."""
        return collate_samples

    def setup(self, stage: str | None = None) -> None:
        """Load the data, once, and check that they fit into the contexts of student and teacher."""
        is_new = self._parts is None
        super().setup(stage)
        assert self._parts is not None
        if is_new and stage == "fit" and uses_chat(self.tokenizer, self.chat):
            warn_of_turn_end(self.trainer and self.trainer.lightning_module, self.tokenizer)
        longest = max(part.longest for part in self._parts)
        check_contexts(
            self.trainer, lambda name: longest, what="the longest trace", argument="max_length"
        )

    def read(self) -> list[Trace]:
        """Return all traces, those to validate on among them; a subclass may make them."""
        return read_traces(self.files)

    def load_parts(self) -> tuple[TraceDataset, TraceDataset]:
        """Read, select, split and encode the traces."""
        traces = self.read()
        self.summary["read"] = len(traces)
        if self.select is not None:
            steps = self.select.steps(traces)
            traces = list(steps[-1].kept)
            self.summary["selected"] = len(traces)
            rank_zero_info(table(steps))
        if self.validation_files is not None:
            validation = read_traces(self.validation_files)
            prompt_ids = {trace.prompt_id for trace in validation}
        else:
            all_ids = {trace.prompt_id for trace in traces}
            prompt_ids = sample_prompts(all_ids, self.validation_fraction, self.seed)
            validation = [trace for trace in traces if trace.prompt_id in prompt_ids]
        training = [trace for trace in traces if trace.prompt_id not in prompt_ids]
        self.traces = Parts(training, validation)
        parts = (
            self._encode(training, self.kind, "training"),
            self._encode(validation, self.validation_kind, "validation"),
        )
        counts = ", ".join(f"{name} {count}" for name, count in self.summary.items())
        rank_zero_info(f"traces: {counts}")
        return parts

    def set_added(self, traces: Sequence[Trace], first_epochs: Sequence[int]) -> None:
        """Train on further traces beside those of ``files``; the run must make its loaders anew.

        They are encoded like the others, all of them as chosen, and are not selected among. A call
        replaces the traces of the call before it.

        Args:
            traces: the traces, which are the same on all ranks.
            first_epochs: the first epoch that trains on each of them. So a run that is resumed at
                the end of an epoch has the batches that this epoch had.
        """
        self._added = []
        for trace, epoch in zip(traces, first_epochs, strict=True):
            encoded, _ = self._encoded([replace(trace, score=None)])
            self._added += ((epoch, [each]) for each in encoded)

    def can_encode(self, trace: Trace) -> bool:
        """Return whether a further trace would be trained on: it is not longer than allowed."""
        encoded, _ = self._encoded([replace(trace, score=None)])
        return bool(encoded)

    def train_dataloader(self) -> DataLoader:
        """Return the training samples, in a new order every epoch; with a curriculum, of a band."""
        rows, trainer = self._rows_of_epoch(), self.trainer
        sampler = None
        if self.curriculum is not None:
            bands = {"trainer": trainer, "seed": self.seed}
            sampler = curriculum_sampler(rows.samples, self.curriculum, **bands)
        return train_loader(
            rows,
            batch_size=self.batch_size,
            seed=self.seed,
            num_workers=self.num_workers,
            collate_fn=self.collate_fn(),
            sampler=sampler,
        )

    def _rows_of_epoch(self) -> TraceDataset:
        """Return the training samples with what was added up to the current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        added = [sample for first, sample in self._added if first <= epoch]
        if not added:
            return self.train_rows
        return TraceDataset([*self.train_rows.samples, *added], kind=self.kind, **self.masks)

    def _encode(self, traces: Sequence[Trace], kind: Kind, part: str) -> TraceDataset:
        encoded, outcomes = self._encoded(traces)
        samples = group_samples(encoded, kind=kind, per_prompt=self.per_prompt)
        if not samples and (traces or part == "training"):
            names = self.validation_files if part == "validation" else None
            reason = (
                f"of {len(traces)} traces {sum(t.rejected for t in encoded)} are rejected, by"
                f" outcome {dict(outcomes)}"
                if traces
                else f"of {self.summary.get('selected', self.summary['read'])} traces all are of"
                " prompts to validate on, or select keeps none; set validation_fraction to 0, or"
                " use other validation_files"
            )
            raise ValueError(f"files={names or self.files!r} give no {kind} for {part}: {reason}")
        self.summary |= {f"{part}: {name}": count for name, count in sorted(outcomes.items())}
        self.summary[f"{part}: {kind}"] = len(samples)
        if unused := len(encoded) - sum(map(len, samples)):
            self.summary[f"{part}: encoded, but not used for {kind}"] = unused
        return TraceDataset(samples, kind=kind, **self.masks)

    def _encoded(self, traces: Sequence[Trace]) -> tuple[list[EncodedTrace], Counter[str]]:
        return encode(
            traces,
            self.tokenizer,
            threshold=self.threshold,
            chat=uses_chat(self.tokenizer, self.chat),
            limits=self.limits,
            loss_on=self.loss_on,
        )

    @property
    def train_rows(self) -> TraceDataset:
        """The training samples, without those that were added during a run."""
        return self.parts[0]

    @property
    def validation_rows(self) -> TraceDataset:
        """The validation samples, which are also the test samples."""
        return self.parts[1]

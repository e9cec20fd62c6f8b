"""Measure during training how often the student solves prompts.

In a config, with prompts and answers in a file of JSON lines::

    trainer:
      callbacks:
        - class_path: kdlight.callbacks.SolveRate
          init_args:
            prompts: problems.jsonl
            verifier: number
            samples: 4
            shortest: 2
            sampling: {temperature: 0.7, max_new_tokens: 256}
        - class_path: lightning.pytorch.callbacks.EarlyStopping
          init_args: {monitor: val/solve_rate, mode: max}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from kdlight.callbacks.generation.answer_checks import (
    check_answerable,
    check_has_batches,
    check_names,
    check_validates,
)
from kdlight.callbacks.generation.answering import verified_answers
from kdlight.callbacks.generation.checks import (
    check_generates,
    check_strategy,
    check_tokenizer,
    datamodule_of,
)
from kdlight.callbacks.module_check import check_module
from kdlight.checks import check_integer, check_type
from kdlight.data.traces.chat import uses_chat
from kdlight.data.traces.prompt_groups import CORRECT
from kdlight.data.traces.prompts import read_prompts
from kdlight.data.traces.trace import Trace
from kdlight.data.traces.trace_checks import check_number
from kdlight.data.traces.verification.solve_rates import number_key, solve_rates, text_key
from kdlight.data.traces.verification.verifiers import VERIFIERS, find_verifier, number
from kdlight.models.sampling import Sampling
from kdlight.modules.base import DistillationBase


class SolveRate(Callback):
    """Lets the student answer prompts at the end of a validation, and verifies the answers.

    Logged as ``val/...``, for a module with the `kdlight.DistillationMixin` as
    ``distillation/...``:

    - ``solve_rate``: share of the answers that are correct;
    - ``tokens_per_answer``: mean length of an answer;
    - ``unfinished_answers``: share of the answers that do not end within ``max_new_tokens``, which
      count as incorrect;
    - ``majority``, of several samples: share of the prompts that are solved by a majority vote;
    - ``short_M_of_K``, with ``shortest``: share of the prompts that are solved by a vote of the
      ``M`` shortest of ``K`` answers, short-m@k of Hassid et al., "Don't Overthink it. Preferring
      Shorter Thinking Chains for Improved LLM Reasoning", 2025.

    The answers are those that ``kdlight traces generate`` would give with the same prompts,
    samples, sampling and batch size, and are verified as ``kdlight traces verify`` does. Every
    validation draws with the same seeds. The ranks of a run divide the batches among them; the
    answers do not depend on their number. The global random generators and the modes of the student
    are not changed. It works under DDP and FSDP2.

    In a vote, answers are compared by the number that the verifier ``number`` finds, if this is the
    verifier; else by their text, or as numbers if they are, see
    `kdlight.data.traces.verification.solve_rates.text_key`.

    Args:
        prompts: where prompts and their reference answers are, as for
            `kdlight.data.traces.prompts.read_prompts`; or a list of `kdlight.data.traces.Trace`.
        verifier: ``number``, ``exact``, ``math``, ``reasoning_gym``, or a function of one's own
            from a trace to a score, as ``module:function`` or ``file.py:function``.
        samples: number of answers to each prompt.
        sampling: how the student generates, with ``max_new_tokens``. Greedy by default.
        shortest: the number of the shortest answers that vote; None to leave this out.
        batch_size: number of answers generated at once on a rank.
        chat: whether to use the chat template of the tokenizer; None for as the data module does
            (its ``chat``), else if there is one.
        threshold: the smallest score of a correct answer.
        every_n_epochs: answer in every n-th epoch only.
        name: put before the names of what is logged, ``val/NAME/...``, so that several callbacks
            can have different prompts.

    Attributes:
        answers: the answers of the last validation with their scores, of all ranks.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: Before training: a number outside its range; several samples, but greedy
            generation; ``shortest`` above ``samples``; an unknown verifier; prompts that are
            missing, twice there, too long for the student, or without the answer that the verifier
            needs; a student that does not generate; a run without validation or tokenizer; FSDP1 or
            DeepSpeed, under which a student cannot generate. During it: a verifier that fails.

    Example:
        >>> from kdlight.data.traces import Trace
        >>> SolveRate([Trace("3 + 4 =", "", answer="7")]).samples
        1
    """

    def __init__(
        self,
        prompts: str | Path | Sequence[Any],
        verifier: str | Callable[[Trace], Any] = "number",
        samples: int = 1,
        sampling: Sampling = Sampling(temperature=0.0, max_new_tokens=256),  # noqa: B008
        shortest: int | None = None,
        batch_size: int = 8,
        chat: bool | None = None,
        threshold: float = CORRECT,
        every_n_epochs: int = 1,
        name: str | None = None,
    ) -> None:
        check_type("prompts", prompts, (str, Path, Sequence), "a file or a list of Trace")
        for prompt in () if isinstance(prompts, (str, Path)) else prompts:
            check_type("prompts", prompt, Trace, "a file or a list of Trace")
        check_type("sampling", sampling, Sampling, "a kdlight.models.Sampling")
        check_integer("samples", samples, 1)
        check_integer("batch_size", batch_size, 1)
        check_integer("every_n_epochs", every_n_epochs, 1)
        check_type("chat", chat, (bool, type(None)), "true, false or None")
        check_type("name", name, (str, type(None)), "a text or None")
        check_number("threshold", threshold)
        if sampling.max_new_tokens is None:
            raise ValueError("sampling.max_new_tokens must be the length of an answer, got None")
        if samples > 1 and sampling.temperature == 0:
            raise ValueError(
                f"samples is {samples}, but with sampling.temperature 0 all of them are the same;"
                " set a temperature above 0, or samples to 1"
            )
        if shortest is not None:
            check_integer("shortest", shortest, 1, samples)
        self.prompts, self.samples, self.sampling = prompts, samples, sampling
        self.verifier = find_verifier(verifier)
        self.shortest, self.batch_size, self.chat = shortest, batch_size, chat
        self.threshold, self.every_n_epochs, self.name = threshold, every_n_epochs, name
        self.answers: list[Trace] = []
        self._tasks: list[Trace] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read the prompts, and check that the student can answer and the verifier can verify."""
        if stage not in ("fit", "validate"):
            return
        module = check_module("SolveRate", pl_module)
        check_generates("SolveRate", "student", module.student_network())
        check_tokenizer("SolveRate", trainer)
        check_strategy("SolveRate", trainer)
        if stage == "fit":
            check_validates("SolveRate", trainer, every_n_epochs=self.every_n_epochs)
        check_names(SolveRate, trainer)
        prompts = self.prompts
        prompts = read_prompts(str(prompts)) if isinstance(prompts, (str, Path)) else list(prompts)
        tokenizer = datamodule_of(trainer).tokenizer
        check_answerable(
            module.student_network(),
            tokenizer,
            prompts,
            chat=self._uses_chat(trainer),
            max_new_tokens=self.sampling.max_new_tokens or 1,
        )
        if self.verifier in VERIFIERS.values():  # a function of a user may need no answer
            for prompt in prompts:
                self.verifier(replace(prompt, response=""))
        self._tasks = [
            replace(prompt, response="", meta={**prompt.meta, "generation": number})
            for prompt in prompts
            for number in range(self.samples)
        ]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the run validates."""
        check_has_batches("SolveRate", trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the student answer, verify the answers, and log how many are correct."""
        assert isinstance(pl_module, DistillationBase)
        fitting = trainer.state.fn == "fit"
        if trainer.sanity_checking or (
            fitting and (trainer.current_epoch + 1) % self.every_n_epochs
        ):
            return
        tokenizer = datamodule_of(trainer).tokenizer
        self.answers = verified_answers(
            trainer,
            pl_module,
            tokenizer,
            self._tasks,
            verifier=self.verifier,
            threshold=self.threshold,
            sampling=self.sampling,
            batch_size=self.batch_size,
            chat=self._uses_chat(trainer),
        )
        key = number_key if self.verifier is number else text_key
        rates = solve_rates(self.answers, shortest=self.shortest, threshold=self.threshold, key=key)
        values = {
            "solve_rate": rates.solve_rate,
            "tokens_per_answer": rates.tokens_per_answer,
            "unfinished_answers": rates.unfinished,
        }
        if self.samples > 1:
            values["majority"] = rates.majority
        if rates.short is not None:
            values[f"short_{self.shortest}_of_{self.samples}"] = rates.short
        prefix = pl_module.log_prefix
        parts = ["val" if prefix == "train" else prefix, *([self.name] if self.name else [])]
        for name, value in values.items():
            # the values of all ranks are the same; Lightning would warn without sync_dist
            pl_module.log("/".join((*parts, name)), value, sync_dist=True)

    def _uses_chat(self, trainer: Trainer) -> bool:
        data = datamodule_of(trainer)
        chat = getattr(data, "chat", None) if self.chat is None else self.chat
        return uses_chat(data.tokenizer, chat)

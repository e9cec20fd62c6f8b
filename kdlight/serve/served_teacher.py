"""A teacher that answers requests: sequences in, scores or hidden states out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from kdlight.cache.records import Sequence
from kdlight.checks import check_choice
from kdlight.models.model_kind import wrapped_model
from kdlight.modules.run_networks import compare_at_next_batch
from kdlight.remote.wire import TeacherRequest
from kdlight.remote.wire_head import encode_head
from kdlight.serve.description import describe_teacher
from kdlight.serve.linear_head import head_weights
from kdlight.serve.padding import pad, plan_batches, row_positions
from kdlight.serve.padding_check import padding_changes_nothing
from kdlight.serve.scoring import score_given, score_top
from kdlight.serve.teacher_checks import (
    check_answer,
    check_servable,
    check_states,
)
from kdlight.sources import LogitsSource, as_source

STATES = ("bfloat16", "float32", None)
WRONG = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)
PROBE = 4
"""Number of tokens of the sequence that a teacher is tried on."""


class ServedTeacher:
    """A teacher of any fit, as a server runs it: on token ids alone.

    Args:
        teacher: a network, or a `kdlight.teachers.Teacher` that runs networks at temperature 1 and
            needs neither labels nor the student.
        name: its name; None for that of the class of its model.
        tokenizer: the tokenizer whose fingerprint clients compare with their own; None for none.
        states: dtype in which hidden states are returned, ``"bfloat16"`` or ``"float32"``; None
            for no hidden states.
        device: device of the teacher; None for the CPU.
        precision: makes the context in which the teacher runs, such as that of autocast.
        batch_tokens: largest number of positions that run at once, padding included.

    Raises:
        ValueError: the teacher cannot be served, or an unknown dtype of states.

    Example:
        >>> from transformers import AutoModelForCausalLM, GPT2Config
        >>> from kdlight import CausalLM
        >>> config = GPT2Config(vocab_size=31, n_embd=8, n_layer=1, n_head=1, n_positions=16)
        >>> served = ServedTeacher(CausalLM.wrap(AutoModelForCausalLM.from_config(config)))
        >>> served.prepare()
        >>> served.info["vocab_size"], served.info["context_length"]
        (31, 16)
        >>> [(scores,)] = served.answer([TeacherRequest("score", [[1, 2, 3]], k=5)])
        >>> scores.ids.shape
        (15,)
    """

    def __init__(
        self,
        teacher: Any,
        *,
        name: str | None = None,
        tokenizer: Any = None,
        states: str | None = None,
        device: str | torch.device | None = None,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
        batch_tokens: int = 2**12,
    ) -> None:
        check_choice("states", states, STATES)
        self.teacher = check_servable(teacher)
        networks = self.teacher.networks()
        network: Any = networks[0] if networks else self.teacher
        self.name = name or type(wrapped_model(network) or network).__name__
        self.tokenizer, self.states, self.precision = tokenizer, states, precision
        self.device = torch.device("cpu" if device is None else device)
        self.batch_tokens = batch_tokens
        self.info: dict[str, Any] = {}
        self.allows_padding = False
        self._head: Any = None

    def prepare(self) -> None:
        """Move the teacher to its device, try it on a few tokens, and fill in ``info``.

        Raises:
            ValueError: it does not answer on tokens alone, or has no hidden states to return.
        """
        self.teacher.prepare(self.device)
        compare_at_next_batch(self.teacher.networks())
        tokens = [number % 2 for number in range(PROBE)]  # which any vocabulary has
        try:
            source = self._run([tokens])
        except WRONG as error:
            raise ValueError(
                f"{self.name} cannot be served, as it does not answer on token ids alone: {error}"
            ) from error
        check_answer(source, self.name, PROBE)
        vocabulary, tokenizer = source.shape[-1], self.tokenizer
        info = describe_teacher(
            self.teacher, name=self.name, vocabulary=vocabulary, tokenizer=tokenizer
        )
        if self.states is not None:
            self._head = head_weights(check_states(source, self.name))
            dtype = str(self._head[0].dtype).removeprefix("torch.")
            info |= {"states": self.states, "dtype": dtype}
        with self.precision():
            self.allows_padding = padding_changes_nothing(self._run, source, tokens)
        self.info = info

    @torch.no_grad()
    def answer(self, requests: list[TeacherRequest]) -> list[list[Sequence] | list[Tensor]]:
        """Return scores, or hidden states ``(T, D)``, of each sequence of each request."""
        rows = [(n, i) for n, each in enumerate(requests) for i in range(len(each.sequences))]
        lengths = [requests[n].lengths[i] for n, i in rows]
        found: list[Any] = [[None] * len(each.sequences) for each in requests]
        for batch in plan_batches(lengths, self.batch_tokens, padded=self.allows_padding):
            chosen = [rows[number] for number in batch]
            sequences = [requests[n].sequences[i] for n, i in chosen]
            source, positions = self._run(sequences), row_positions(sequences)
            for n in dict.fromkeys(n for n, _ in chosen):
                own = [at for at, (owner, _) in enumerate(chosen) if owner == n]
                numbers = [chosen[at][1] for at in own]
                parts = self._select(requests[n], source, [positions[at] for at in own], numbers)
                for i, part in zip(numbers, parts, strict=True):
                    found[n][i] = part
        return found

    def encoded_head(self) -> bytes:
        """Return the bytes of the output head, see `kdlight.remote.wire`.

        Raises:
            ValueError: the server returns no hidden states.
        """
        if self._head is None:
            raise ValueError("this server returns no hidden states; start it with --states")
        return encode_head(*self._head)

    def release(self) -> None:
        """Free device memory."""
        self.teacher.release()

    @torch.no_grad()
    def _run(self, sequences: list[list[int]]) -> LogitsSource:
        with self.precision():
            return as_source(self.teacher(pad(sequences, self.device)))

    def _select(
        self, request: TeacherRequest, source: LogitsSource, rows: list[Tensor], numbers: list[int]
    ) -> list[Any]:
        with self.precision():  # the output head runs here
            if request.kind == "score":
                return score_top(source, rows, request.k)
            if request.kind == "score_ids":
                return score_given(source, rows, [request.ids[number] for number in numbers])
        hidden = check_states(source, self.name).select(torch.cat(rows).to(source.device)).hidden
        states = hidden.to(getattr(torch, str(self.states))).cpu()
        if bool(states.isnan().any()):
            raise ValueError("the teacher's hidden states are NaN; check its weights and its dtype")
        return list(states.split([len(row) for row in rows]))

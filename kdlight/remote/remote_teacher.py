"""A teacher behind a URL."""

from __future__ import annotations

import time
from typing import Any, Literal

import torch
from torch import Tensor

from kdlight.cache.layout import Layout
from kdlight.cache.placing import place_sequences
from kdlight.checks import check_positive
from kdlight.data.targets import LabelRule
from kdlight.endpoints import Endpoint
from kdlight.losses.topk import Tail, check_tail
from kdlight.remote.connection import common_width
from kdlight.remote.cropped_answers import crop
from kdlight.remote.hidden_states import ServedHead, fetch_head, place_states
from kdlight.remote.questions import Questions
from kdlight.remote.remote_options import RemoteOptions
from kdlight.remote.row_checks import check_scored, check_tokens
from kdlight.remote.rows import TokenRow, token_rows
from kdlight.remote.server_checks import check_same_tokenizer
from kdlight.remote.server_info import ServerInfo
from kdlight.remote.student_ids import student_top
from kdlight.sources import Logits, LogitsSource, as_source, tempered
from kdlight.teachers.base import Teacher
from kdlight.teachers.cropping import crop_columns


class RemoteTeacher(Teacher):
    r"""A teacher that a server runs: ``kdlight serve``, vLLM, SGLang, TRL, or one like OpenAI's.

    Choose it for a teacher that does not fit beside the student, or that several runs share. The
    server is asked by token ids, so its tokenizer must be that of the data. Before training it
    tells the name of its model, the width of the vocabulary, the longest sequence and the largest
    k, as far as its kind tells them; what does not fit is one error.

    Answers are a `kdlight.TopK` of the k most likely tokens with the mass of all others, so that
    f-divergences and their gradients are exactly those over k + 1 outcomes. With ``states``,
    ``kdlight serve --states bfloat16`` returns hidden states instead of logits; the output head is
    fetched once, and every objective is exact.

    The rows of a batch are divided among several requests, which are answered at the same time.
    The next batch is asked for while the student is trained on this one, unless a callback changes
    batches. Each rank asks for its own rows. A server that does not answer is asked again, with
    growing pauses; then there is one error, on all ranks, after a checkpoint
    (``server_error.ckpt``). Logged as ``train/teacher/wait``: the seconds that the last micro-batch
    waited for the teacher.

    For one of several teachers in each row, give a `kdlight.TeacherEnsemble` with ``route_by``
    several of these.

    Args:
        url: the address of the server, such as ``"http://localhost:8000"``, or several of the same
            teacher, which are asked by turns.
        k: number of tokens of a position; None for all.
        dialect: ``"kdlight"``, ``"vllm"``, ``"sglang"``, ``"trl"``, ``"text"``; ``"auto"`` finds
            out which.
        model: the name of the model; None for the only one of the server.
        tokens: ``"teacher"`` for the k tokens that are most likely for the teacher; ``"student"``
            for those of the student in training, see `kdlight.objectives.TopKReverseKL`. In
            evaluation they are the teacher's.
        states: ask for hidden states.
        tail: how the tokens that are not returned are treated, see `kdlight.TopK`.
        temperature: of the teacher, above 0; above 1 flattens its distribution.
        vocab_size: number of tokens N that student and teacher have in common, with the same ids
            from 0, where the server does not tell it or the vocabularies are padded.
        bits: bits of a log-probability on the way from ``kdlight serve``: 32 is exact, about 280
            bytes a position at k = 50; 8 takes about 122, as in a cache.
        max_tokens: most tokens of a request. vLLM holds the log-probabilities of all tokens of the
            vocabulary for each of them.
        requests: number of requests at the same time.
        prefetch: ask for the next batch while the student is trained.
        timeout: seconds to wait for an answer.
        retries: number of further attempts.
        token_variable: name of the environment variable that holds the server's token.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of range, or before training a server that does not fit.
        ServerError: `kdlight.endpoints.ServerError`, a server that does not answer.

    Example:
        >>> teacher = RemoteTeacher("http://localhost:8000", k=20)  # asked when a run starts
        >>> teacher.options.k, teacher.scores_new_text
        (20, True)
    """

    def __init__(
        self,
        url: str | list[str],
        *,
        k: int | None = 50,
        dialect: str = "auto",
        model: str | None = None,
        tokens: Literal["teacher", "student"] = "teacher",
        states: bool = False,
        tail: Tail = "bucket",
        temperature: float = 1.0,
        vocab_size: int | None = None,
        bits: int = 32,
        max_tokens: int = 8192,
        requests: int = 4,
        prefetch: bool = True,
        timeout: float = 60.0,
        retries: int = 10,
        token_variable: str | None = None,
    ) -> None:
        self.options = RemoteOptions(
            url, k, dialect, model, tokens, states, vocab_size, bits, max_tokens, requests
        )
        check_tail(tail)
        check_positive("temperature", temperature)
        self.tail: Tail = tail
        self.temperature, self.prefetch = float(temperature), bool(prefetch)
        self.endpoints = [
            Endpoint(each, timeout=timeout, retries=retries, token_variable=token_variable)
            for each in self.options.urls
        ]
        self.waited = 0.0
        self._questions: Questions | None = None
        self._head: ServedHead | None = None
        self._device: torch.device | None = None
        self._layout = Layout()

    # ---- what the server tells

    @property
    def questions(self) -> Questions:
        """The servers, which are asked what they are when this is first needed."""
        if self._questions is None:
            self._questions = self.options.open(self.endpoints)
        return self._questions

    @property
    def info(self) -> ServerInfo:
        """What the server tells."""
        return self.questions.connection.info

    @property
    def vocab_size(self) -> int:
        """Width V of the logits."""
        return common_width(self.questions.connection, self.options.vocab_size)

    @property
    def context_length(self) -> int | None:
        """Longest sequence that the server scores, if it tells."""
        return self.info.context_length

    @property
    def scores_new_text(self) -> bool:
        """Whether there are logits for text that is written during the run: there are."""
        return True

    @property
    def is_remote(self) -> bool:
        """Whether the logits come from a server: they do."""
        return True

    @property
    def looks_ahead(self) -> bool:
        """Whether the server is asked about the next batch while the student is trained."""
        return self.prefetch and not self.needs_student

    @property
    def needs_student(self) -> bool:
        """Whether the student chooses the tokens that are scored."""
        return self.options.tokens == "student"

    def fingerprints(self) -> list[str]:
        """Return what tells this teacher from another one: weights or name, and software."""
        return [self.info.weights or f"{self.info.software} {self.info.model}"]

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Raise a ValueError if the server has another tokenizer, as far as it tells."""
        check_same_tokenizer(self.questions.connection, tokenizer)

    def check_labels(self, rule: LabelRule, ignore_index: int) -> None:
        """Take note of where labels stand, for which the server must have answers."""
        self._layout = Layout(rule, ignore_index)

    def mask_student(self, student: Logits) -> Logits:
        """Crop the student's logits to ``vocab_size`` columns, if it is set."""
        source = as_source(student)
        size = self.options.vocab_size
        return student if size is None else crop_columns(source, min(size, source.shape[-1]))

    def student_size(self, size: int) -> int:
        """Return the width of a student's logits after `mask_student`, from their own width."""
        return size if self.options.vocab_size is None else min(size, self.options.vocab_size)

    # ---- the answers

    def expect(self, batch: Any) -> None:
        """Send the requests for a batch that will be asked about next."""
        if not self.needs_student:
            self.questions.announce(self._rows(batch))

    def answer(
        self, batch: Any, student: Logits | None = None, labels: Tensor | None = None
    ) -> LogitsSource:
        """Return the server's logits of ``batch``."""
        rows = self._rows(batch)
        shape, device = batch["input_ids"].shape, self._device or batch["input_ids"].device
        begin = time.perf_counter()
        if self.needs_student and student is not None:
            ids = student_top(self.mask_student(student), rows, self.questions.k, labels)
            found = self.questions.ask_ids(rows, ids)
        else:
            found = self.questions.ask(rows)
        self.waited = time.perf_counter() - begin
        starts = {number: row.start for number, row in rows.items()}
        if self.options.states:
            head = self._served_head(device)
            source = place_states(found, starts, shape, head, device)
            source = crop_columns(source, self.vocab_size)
            return tempered(source, self.temperature)
        check_scored(batch, found, starts, self.options.urls[0], self._layout)
        found = {number: crop(each, self.vocab_size) for number, each in found.items()}
        return place_sequences(
            found,
            starts,
            shape,
            vocabulary=self.vocab_size,
            device=device,
            tail=self.tail,
            temperature=self.temperature,
        )

    def count_positions(self, batch: Any) -> int:
        """Return the number of positions of ``batch`` that a server is asked about."""
        return sum(len(row.tokens) for row in self._rows(batch).values())

    def metrics(self) -> dict[str, float]:
        """Return the seconds that the last answer was waited for."""
        return {"teacher/wait": self.waited}

    def _rows(self, batch: Any) -> dict[int, TokenRow]:
        rows = token_rows(batch)
        check_tokens(rows, vocab_size=self.info.vocab_size, length=self.context_length)
        return rows

    def _served_head(self, device: torch.device) -> ServedHead:
        if self._head is None:
            self._head = fetch_head(self.questions.connection)
        self._head.to(device)
        return self._head

    # ---- lifecycle

    def prepare(self, device: torch.device) -> None:
        """Ask the servers what they are, and fetch the head if there are hidden states."""
        self._device = device
        self.questions  # noqa: B018  # a server that does not fit is an error before the run
        if self.options.states:
            self._served_head(device)

    def release(self) -> None:
        """Close the connections; a later run asks the servers anew what they are."""
        if self._questions is not None:
            self._questions.close()
        self._questions = self._head = None

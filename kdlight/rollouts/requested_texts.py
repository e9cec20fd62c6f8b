"""Continuations that are asked of a server, several at once, by the right weights only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_hex

from torch import Tensor

from kdlight.endpoints import RequestRefused
from kdlight.endpoints.background import BackgroundCalls
from kdlight.models.sampling import Sampling
from kdlight.rollouts.token_answers import Continuation
from kdlight.rollouts.vllm_server import ADAPTER, VLLMServer
from kdlight.rollouts.weight_sync import Sent, WeightSync, other_weights

ATTEMPTS = 4
"""How often a text is asked for while the server has other weights than those of the student."""


@dataclass(frozen=True)
class RequestedTexts:
    """Asks a server for continuations.

    Attributes:
        server: the server.
        model: the name of the model.
        version: the label of the weights that are to write; None if the server does not tell it.
        sampling: temperature and top_p.
        seed: that of a text is derived from it and the number of the text.
        end: ids of the tokens that end a text.
        vocab_size: number of tokens of the model, if it is known.
        in_flight: number of texts that are asked for at once.
        unknown: ids that must not be drawn.
        labels: where ``version`` is None, the label of the first answer, which all must have.
    """

    server: VLLMServer
    model: str
    version: str | None
    sampling: Sampling
    seed: int
    end: tuple[int, ...] = ()
    vocab_size: int | None = None
    in_flight: int = 16
    unknown: Sequence[int] = ()
    labels: set[str] = field(default_factory=set)

    def ask_all(
        self,
        asked: Mapping[int, tuple[Tensor, int]],
        sync: WeightSync | None = None,
        sent: Sent | None = None,
    ) -> dict[int, list[int]]:
        """Return the new tokens of each text, by its number.

        A server that has other weights by now, as after a restart, gets the right ones again.

        Args:
            asked: by the number of a text, its tokens and the maximal number of new ones.
            sync: what gives the server its weights; None if it keeps those that it has.
            sent: those weights.

        Raises:
            ServerError: the server has other weights again and again.
        """
        done: dict[int, list[int]] = {}
        for _ in range(ATTEMPTS):
            missing = {i: text for i, text in asked.items() if i not in done}
            if not missing:
                return done
            if sync is None or sent is None:
                done |= self.ask(missing)
                break
            answers = self.ask(missing)
            if sync.has(sent):
                done |= answers
            if len(done) < len(asked):
                sync.restore(sent)
        if len(done) < len(asked):
            raise other_weights(self.server.endpoint.url)
        return done

    def ask(self, asked: Mapping[int, tuple[Tensor, int]]) -> dict[int, list[int]]:
        """Return the new tokens of each text, by its number; none if other weights wrote one.

        A server keeps what it has computed for a prompt and uses it for others of the same salt,
        whatever weights it has by then. So the salt is that of these texts alone.

        Args:
            asked: by the number of a text, its tokens and the maximal number of new ones.
        """
        calls = BackgroundCalls(self.in_flight)
        try:
            salt = token_hex(8)
            futures = {i: calls.submit(self._ask, salt, i, *text) for i, text in asked.items()}
            answers = {i: future.result() for i, future in futures.items()}
        finally:  # an interrupted run does not wait for a server that does not answer
            calls.close()
        known = {i: each for i, each in answers.items() if each is not None}
        labels = {label for each in known.values() for label in each.versions}
        if self.version is None:
            self.labels.update(labels)
        expected = len(self.labels) < 2 if self.version is None else labels <= {self.version}
        right = expected and len(known) == len(asked)
        return {i: each.ids for i, each in known.items()} if right else {}

    def _ask(self, salt: str, number: int, prefix: Tensor, most: int) -> Continuation | None:
        try:
            return self.server.generate(
                prefix.tolist(),
                most,
                model=self.model,
                salt=salt,
                sampling=self.sampling,
                # the same for a text whatever is asked beside it
                seed=int(sha256(f"{self.seed}:{number}".encode()).hexdigest()[:15], 16),
                end=self.end,
                vocab_size=self.vocab_size,
                unknown=self.unknown,
            )
        except RequestRefused as error:
            if error.status == 404 and self.model == ADAPTER:
                return None  # a server that restarted has no adapters
            raise

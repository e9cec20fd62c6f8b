"""The base of dialects whose servers score the tokens of a prompt, in JSON."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from kdlight.cache.records import Sequence
from kdlight.endpoints import Endpoint
from kdlight.endpoints.answer import Answer
from kdlight.remote.dialects.dialect import Dialect, Tokens
from kdlight.remote.server_info import ServerInfo


class PromptDialect(Dialect):
    """One request for several prompts; a subclass says what is sent, and how the answer is read.

    Attributes:
        path: where requests are sent.

    Example:
        >>> from kdlight.remote.dialects import VLLM
        >>> VLLM.path
        '/v1/completions'
    """

    path: ClassVar[str]

    @abstractmethod
    def request(self, model: str, sequences: list[Tokens], k: int) -> dict[str, Any]:
        """Return the body of a request for the k most likely tokens."""

    @abstractmethod
    def read(
        self, answer: Any, sequences: list[Tokens], k: int, vocab_size: int | None
    ) -> list[Sequence]:
        """Return the scored sequences of the JSON value of an answer.

        Raises:
            ValueError: it is not the answer to these sequences.
        """

    def score(
        self, endpoint: Endpoint, info: ServerInfo, sequences: list[Tokens], k: int | None
    ) -> list[Sequence]:
        """Return the k most likely tokens of all but the last position of each sequence."""
        count = info.vocab_size if k is None else k
        assert count is not None

        def accept(answer: Answer) -> list[Sequence]:
            return self.read(answer.json(), sequences, count, info.vocab_size)

        return endpoint.post(
            self.path,
            json=self.request(info.model, sequences, count),
            what=f"the {count} most likely tokens of {len(sequences)} sequences",
            accept=accept,
        )


def scored_tokens(entries: Any, tokens: Tokens) -> list[Any]:
    """Return the entries of all tokens but the first one, which nothing predicts.

    Args:
        entries: a list with an entry for each token, None for the first one.
        tokens: the tokens of the prompt.

    Raises:
        ValueError: it is another list.

    Example:
        >>> scored_tokens([None, {"7": -0.5}], [5, 3])
        [{'7': -0.5}]
    """
    if not isinstance(entries, list) or len(entries) != len(tokens) or entries[0] is not None:
        count = len(entries) if isinstance(entries, list) else entries
        raise ValueError(f"{count} entries for a sequence of {len(tokens)} tokens")
    return entries[1:]

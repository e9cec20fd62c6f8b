"""SGLang: log-probabilities of a prompt, by its own server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kdlight.cache.records import Sequence
from kdlight.endpoints import Endpoint, ServerError
from kdlight.endpoints.answer import Answer
from kdlight.remote.answers import to_sequence
from kdlight.remote.dialects.dialect import Tokens
from kdlight.remote.dialects.prompt_dialect import PromptDialect, scored_tokens
from kdlight.remote.server_info import ServerInfo


class SGLang(PromptDialect):
    """``POST /generate`` with ``input_ids`` and ``top_logprobs_num``.

    Each position has a list of ``[log-probability, id, text]``, of which the first one is null.

    Example:
        >>> SGLang.name
        'sglang'
    """

    name = "sglang"
    path = "/generate"

    def discover(self, endpoint: Endpoint, model: str | None) -> ServerInfo:
        """Return the model's path, and version and context length where the server tells them."""
        found = endpoint.get("/model_info", what="its model", accept=lambda a: a.json())
        if not isinstance(found, dict) or "model_path" not in found:
            raise ServerError(f"{endpoint.url} is no SGLang server", url=endpoint.url)
        name = str(found.get("served_model_name") or found["model_path"])
        if model not in (None, name, found["model_path"]):
            raise ValueError(
                f"model is {model!r}, but {endpoint.url} has {name!r}; set model to it"
            )
        version, length = self._settings(endpoint)
        return ServerInfo(f"SGLang {version}".strip(), name, context_length=length)

    def _settings(self, endpoint: Endpoint) -> tuple[str, int | None]:
        """Return version and context length, as far as the server tells them."""

        def accept(answer: Answer) -> tuple[str, int | None]:
            settings = answer.json()
            length = settings.get("context_length")
            return settings.get("version", ""), int(length) if length else None

        try:
            return endpoint.get("/server_info", what="its settings", accept=accept)
        except ServerError:
            return "", None

    def request(self, model: str, sequences: list[Tokens], k: int) -> dict[str, Any]:
        """Return the body of a request."""
        return {
            "input_ids": sequences,
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": k,
            "sampling_params": {"max_new_tokens": 0, "temperature": 1.0},
        }

    def read(
        self, answer: Any, sequences: list[Tokens], k: int, vocab_size: int | None
    ) -> list[Sequence]:
        """Return the scored sequences of an answer, see `read_generate`."""
        return read_generate(answer, sequences, k, vocab_size)


def read_generate(
    answer: Any, sequences: list[Tokens], k: int, vocab_size: int | None
) -> list[Sequence]:
    """Return the scored sequences of an answer of SGLang, checked.

    Raises:
        ValueError: what the server returned is not the answer to these sequences.

    Example:
        >>> scores = {
        ...     "input_token_logprobs": [[None, 5, None], [-4.0, 3, None]],
        ...     "input_top_logprobs": [None, [[-0.5, 7, None]]],
        ... }
        >>> read_generate([{"meta_info": scores}], [[5, 3]], 1, 10)[0].ids
        array([7])
    """
    parts = answer if isinstance(answer, list) else [answer]
    if len(parts) != len(sequences):
        raise ValueError(f"{len(parts)} answers for {len(sequences)} sequences")
    try:
        scores = [part["meta_info"] for part in parts]
        own = [[int(entry[1]) for entry in each["input_token_logprobs"]] for each in scores]
        top = [each["input_top_logprobs"] for each in scores]
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"no meta_info with input log-probabilities ({error!r})") from None
    for number, (tokens, found) in enumerate(zip(sequences, own, strict=True)):
        if tokens != found:
            raise ValueError(f"answer {number} is of another sequence")
    return [
        _read(scored, tokens, k if vocab_size is None else min(k, vocab_size), vocab_size)
        for scored, tokens in zip(top, sequences, strict=True)
    ]


def _read(scored: Any, tokens: Tokens, k: int, vocab_size: int | None) -> Sequence:
    entries_of_tokens = scored_tokens(scored, tokens)

    def positions() -> Iterable[tuple[int, list[int], list[float]]]:
        for number, entries in enumerate(entries_of_tokens):
            if not isinstance(entries, list) or len(entries) != k:
                raise ValueError(f"position {number} has no {k} tokens, but {entries!r:.40}")
            try:
                yield number, [int(e[1]) for e in entries], [float(e[0]) for e in entries]
            except (TypeError, IndexError) as error:
                raise ValueError(f"position {number} cannot be read: {error!r}") from None

    return to_sequence(len(tokens), positions(), vocab_size=vocab_size)

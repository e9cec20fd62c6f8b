"""vLLM: log-probabilities of a prompt, by its OpenAI-compatible server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from kdlight.cache.records import Sequence
from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.remote.answers import check_values, to_sequence
from kdlight.remote.dialects.dialect import Tokens
from kdlight.remote.dialects.openai_models import read_models
from kdlight.remote.dialects.prompt_dialect import PromptDialect, scored_tokens
from kdlight.remote.dialects.tokenizer_probe import check_probe
from kdlight.remote.server_info import ServerInfo

TOO_MANY = re.compile(r"prompt logprobs of (-?\d+).*max allowed: (-?\d+)")
"""How vLLM refuses more log-probabilities of a position than it was started for."""


class VLLM(PromptDialect):
    """``POST /v1/completions`` with ``prompt_logprobs``: the prompt is scored, by token id.

    The server returns the k most likely tokens of each position, and the prompt's own token where
    it is not among them; that one shows that the answer is of this sequence, and is left out, so
    that a position has k tokens whatever follows it. Values are those at temperature 1.

    Example:
        >>> VLLM.name
        'vllm'
    """

    name = "vllm"
    path = "/v1/completions"

    def discover(self, endpoint: Endpoint, model: str | None) -> ServerInfo:
        """Return name, version, context length, width of the vocabulary and the largest k."""
        version = endpoint.get("/version", what="its version", accept=lambda a: a.json())
        if not isinstance(version, dict) or "version" not in version:
            raise ServerError(f"{endpoint.url} is no vLLM server", url=endpoint.url)
        entry = read_models(endpoint, model)
        vocab_size, max_k = self._limits(endpoint, entry["id"])
        length = entry.get("max_model_len")
        return ServerInfo(
            software=f"vLLM {version['version']}",
            model=entry["id"],
            vocab_size=vocab_size,
            max_k=max_k,
            # a request generates a token, for which there must be room
            context_length=None if length is None else int(length) - 1,
        )

    def check_tokenizer(self, endpoint: Endpoint, info: ServerInfo, tokenizer: Any) -> None:
        """Compare the ids of a text, if the server has ``/tokenize``."""

        def ask(text: str) -> list[int]:
            body = {"model": info.model, "prompt": text, "add_special_tokens": False}
            answer = endpoint.post("/tokenize", json=body, what="the tokens of a text", retries=1)
            return answer.json()["tokens"]

        check_probe(ask, tokenizer, f"{endpoint.url} ({info.software}, {info.model})")

    def request(self, model: str, sequences: list[Tokens], k: int) -> dict[str, Any]:
        """Return the body of a request."""
        return {
            "model": model,
            "prompt": sequences,
            "max_tokens": 1,
            "prompt_logprobs": k,
            "temperature": 1.0,
            "return_token_ids": True,  # show of which sequence an answer is, in newer versions
        }

    def read(
        self, answer: Any, sequences: list[Tokens], k: int, vocab_size: int | None
    ) -> list[Sequence]:
        """Return the scored sequences of an answer, see `read_choices`."""
        return read_choices(answer, sequences, k, vocab_size)

    def _limits(self, endpoint: Endpoint, model: str) -> tuple[int | None, int | None]:
        """Return the width of the vocabulary and the largest k, from how -1 (all) is refused."""
        try:
            count = endpoint.post(
                self.path,
                json=self.request(model, [[0, 0]], -1),
                what="all log-probabilities of two tokens",
                accept=lambda answer: len(answer.json()["choices"][0]["prompt_logprobs"][1]),
            )
        except RequestRefused as error:
            found = TOO_MANY.search(error.text)
            return (int(found[1]), int(found[2])) if found else (None, None)
        return count, None


def read_choices(
    answer: Any, sequences: list[Tokens], k: int, vocab_size: int | None
) -> list[Sequence]:
    """Return the scored sequences of an answer of vLLM, checked.

    Raises:
        ValueError: what the server returned is not the answer to these sequences.

    Example:
        >>> scored = {"7": {"logprob": -0.5, "rank": 1}, "3": {"logprob": -4.0, "rank": 9}}
        >>> answer = {"choices": [{"index": 0, "prompt_logprobs": [None, scored]}]}
        >>> read_choices(answer, [[5, 3]], 1, 10)[0].ids
        array([7])
    """
    try:
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        numbers = [choice["index"] for choice in choices]
        parts = [choice["prompt_logprobs"] for choice in choices]
        read = [choice.get("prompt_token_ids") for choice in choices]
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"no list of choices with prompt_logprobs ({error!r})") from None
    if numbers != [*range(len(sequences))]:
        raise ValueError(f"choices {numbers} for {len(sequences)} sequences")
    for number, (own, tokens) in enumerate(zip(read, sequences, strict=True)):
        if own is not None and own != tokens:
            raise ValueError(f"choice {number} is the answer to another sequence")
    return [
        read_prompt(scored, tokens, k, vocab_size)
        for scored, tokens in zip(parts, sequences, strict=True)
    ]


def read_prompt(scored: Any, tokens: Tokens, k: int, vocab_size: int | None) -> Sequence:
    """Return one scored prompt: for each token but the first one, tokens with ranks."""
    entries_of_tokens = scored_tokens(scored, tokens)
    expected = k if vocab_size is None else min(k, vocab_size)

    def positions() -> Iterable[tuple[int, list[int], list[float]]]:
        for number, entries in enumerate(entries_of_tokens):
            if not isinstance(entries, dict):
                raise ValueError(f"position {number} has no tokens, but {entries!r:.40}")
            try:
                found = [(int(i), e["logprob"]) for i, e in entries.items()]
            except (TypeError, KeyError, ValueError, AttributeError) as error:
                raise ValueError(f"position {number} cannot be read: {error!r}") from None
            if str(tokens[number + 1]) not in entries:
                raise ValueError(
                    f"position {number} does not have the token {tokens[number + 1]} that follows"
                    " it, so this is the answer to another sequence"
                )
            check_values(number, [value for _, value in found])
            if len(found) > expected:
                own = tokens[number + 1]
                found = [e for e in found if e[0] != own]
            if len(found) != expected:
                raise ValueError(f"position {number} has {len(entries)} tokens instead of {k}")
            yield number, [token for token, _ in found], [value for _, value in found]

    return to_sequence(len(tokens), positions(), vocab_size=vocab_size)

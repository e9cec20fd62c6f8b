"""Servers of OpenAI's older protocol, whose log-probabilities are keyed by text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kdlight.cache.records import Sequence
from kdlight.endpoints import Endpoint
from kdlight.endpoints.answer import Answer
from kdlight.remote.answers import to_sequence
from kdlight.remote.dialects.dialect import Dialect, Tokens
from kdlight.remote.dialects.openai_models import read_models
from kdlight.remote.position_check import check_positions
from kdlight.remote.server_info import ServerInfo


class TextKeyed(Dialect):
    """``POST /v1/completions`` with ``echo`` and ``logprobs``, as llama.cpp's Python server has it.

    Such a server takes a text and returns log-probabilities by the text of a token. Two ids with
    one text cannot be told apart, so a tokenizer that has two such ids is refused. Each answer is
    compared, token by token, with the sequence that was asked for.

    Example:
        >>> TextKeyed.name
        'text'
    """

    name = "text"
    needs_check = False  # the tokenizer must be known first, see `check_tokenizer`

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._texts: dict[int, str] = {}

    def discover(self, endpoint: Endpoint, model: str | None) -> ServerInfo:
        """Return the model's name; these servers tell nothing else."""
        return ServerInfo("a text-keyed server", read_models(endpoint, model)["id"])

    def check_tokenizer(self, endpoint: Endpoint, info: ServerInfo, tokenizer: Any) -> None:
        """Read the text of each id.

        Raises:
            ValueError: two ids have one text, or the server shifts log-probabilities, as
                llama.cpp's Python server does for models without a token at the beginning.
        """
        texts = {i: tokenizer.decode([i]) for i in sorted(tokenizer.get_vocab().values())}
        ids: dict[str, int] = {}
        for number, text in texts.items():
            if (other := ids.setdefault(text, number)) != number:
                raise ValueError(
                    f"{endpoint.url} returns log-probabilities by text, but the tokens {other} and"
                    f" {number} of the tokenizer have one text, {text!r}; serve the teacher with a"
                    " server that uses token ids, such as `kdlight serve`, vLLM or SGLang"
                )
        self._ids, self._texts = ids, texts
        words = tokenizer("one two three four five", add_special_tokens=False)["input_ids"]
        tokens = list(dict.fromkeys(int(word) for word in words))[:5]
        if len(tokens) == 5:
            name = f"{endpoint.url} ({info.software}, {info.model})"
            check_positions(lambda some: self.score(endpoint, info, some, 5), tokens, name)

    def score(
        self, endpoint: Endpoint, info: ServerInfo, sequences: list[Tokens], k: int | None
    ) -> list[Sequence]:
        """Return the k most likely tokens of all but the last position of each sequence."""
        if not self._ids:
            raise ValueError(
                f"{endpoint.url} returns log-probabilities by text, so the tokenizer must be known:"
                " use a data module that has one, or call teacher.check_tokenizer(tokenizer)"
            )
        count = len(self._ids) if k is None else k
        return [self._score(endpoint, info, tokens, count) for tokens in sequences]

    def _score(self, endpoint: Endpoint, info: ServerInfo, tokens: Tokens, k: int) -> Sequence:
        texts = [self._texts[token] for token in tokens]
        request = {
            "model": info.model,
            "prompt": "".join(texts),
            "max_tokens": 1,
            "echo": True,
            "logprobs": k,
            "temperature": 1.0,
        }

        def accept(answer: Answer) -> Sequence:
            return read_echo(answer.json(), tokens, texts, self._ids, k)

        what = f"the {k} most likely tokens of a sequence"
        return endpoint.post("/v1/completions", json=request, what=what, accept=accept)


def read_echo(
    answer: Any, tokens: Tokens, texts: list[str], ids: dict[str, int], k: int
) -> Sequence:
    """Return one scored sequence of a text-keyed answer, checked.

    Args:
        answer: the JSON value.
        tokens: the ids of the sequence.
        texts: the text of each.
        ids: the id of each text.
        k: number of tokens of a position.

    Raises:
        ValueError: the server divided the text into other tokens, or its answer is damaged.

    Example:
        >>> echo = {"tokens": ["a", "b", "c"], "top_logprobs": [None, {"b": -0.5}, {"c": -1.0}]}
        >>> answer = {"choices": [{"logprobs": echo}]}
        >>> read_echo(answer, [0, 1], ["a", "b"], {"a": 0, "b": 1, "c": 2}, 1).ids
        array([1])
    """
    try:
        echo = answer["choices"][0]["logprobs"]
        divided, top = echo["tokens"][: len(texts)], echo["top_logprobs"][1 : len(texts)]
    except (TypeError, KeyError, IndexError) as error:
        raise ValueError(f"no choice with log-probabilities ({error!r})") from None
    if divided != texts or len(top) != len(texts) - 1:
        first = next(
            (i for i, pair in enumerate(zip(texts, divided, strict=False)) if pair[0] != pair[1]),
            min(len(divided), len(texts)),
        )
        raise ValueError(
            f"the server divides the text into other tokens: number {first} is"
            f" {divided[first : first + 1]} instead of {texts[first : first + 1]}"
        )

    def positions() -> Iterable[tuple[int, list[int], list[float]]]:
        for number, entries in enumerate(top):
            if not isinstance(entries, dict) or not all(text in ids for text in entries):
                raise ValueError(f"position {number} has other tokens, {entries!r:.80}")
            # the token that follows is added where it is not among the k most likely ones
            own = texts[number + 1]
            if len(entries) > k:
                entries = {text: value for text, value in entries.items() if text != own}
            if len(entries) != min(k, len(ids)):
                raise ValueError(f"position {number} has {len(entries)} tokens instead of {k}")
            yield number, [ids[text] for text in entries], [*entries.values()]

    return to_sequence(len(tokens), positions(), vocab_size=len(ids))

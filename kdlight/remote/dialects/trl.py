"""TRL's server (``trl vllm-serve``): log-probabilities of a prompt as base64 arrays."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from kdlight.cache.records import Sequence
from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.remote.answers import to_sequence
from kdlight.remote.dialects.dialect import Tokens
from kdlight.remote.dialects.prompt_dialect import PromptDialect
from kdlight.remote.server_info import ServerInfo


class TRL(PromptDialect):
    """``POST /get_sequence_logprobs/``, of TRL 1.1 to 1.4; later versions speak vLLM's dialect.

    Example:
        >>> TRL.name
        'trl'
    """

    name = "trl"
    path = "/get_sequence_logprobs/"

    def discover(self, endpoint: Endpoint, model: str | None) -> ServerInfo:
        """Return what is known: the server tells neither name, version nor sizes."""
        size = endpoint.get(
            "/get_world_size/", what="its number of workers", accept=lambda a: a.json()
        )
        if not isinstance(size, dict) or "world_size" not in size:
            raise ServerError(f"{endpoint.url} is no server of TRL", url=endpoint.url)
        info = ServerInfo("TRL", model or "the model of the server")
        try:
            self.score(endpoint, info, [[0, 0]], 1)
        except RequestRefused as error:
            raise ServerError(
                f"{endpoint.url} is a server of TRL that scores no sequences: {error.text}",
                url=endpoint.url,
            ) from None
        return info

    def request(self, model: str, sequences: list[Tokens], k: int) -> dict[str, Any]:
        """Return the body of a request."""
        return {
            "sequences": sequences,
            "prompt_lengths": [1] * len(sequences),  # so that all tokens but the first are scored
            "top_logprobs": k,
            "temperature": 1.0,
            "response_format": "binary",
        }

    def read(
        self, answer: Any, sequences: list[Tokens], k: int, vocab_size: int | None
    ) -> list[Sequence]:
        """Return the scored sequences of an answer, see `read_arrays`."""
        return read_arrays(answer, sequences, k, vocab_size)


def read_arrays(
    answer: Any, sequences: list[Tokens], k: int, vocab_size: int | None
) -> list[Sequence]:
    """Return the scored sequences of an answer of TRL's server, checked.

    Raises:
        ValueError: what the server returned is not the answer to these sequences.

    Example:
        >>> def encoded(values, dtype):
        ...     return base64.b64encode(np.array(values, dtype=dtype).tobytes()).decode()
        >>> answer = {
        ...     "shape": [1, 1, 1], "completion_lengths": [1],
        ...     "logprobs_b64": encoded([-0.5], "float32"), "token_ids_b64": encoded([7], "int32"),
        ...     "actual_token_ids_b64": encoded([3], "int32"),
        ... }
        >>> read_arrays(answer, [[5, 3]], 1, 10)[0].ids
        array([7])
    """
    try:
        shape = [int(size) for size in answer["shape"]]
        lengths = [int(length) for length in answer["completion_lengths"]]
        values = _decode(answer["logprobs_b64"], np.float32, shape)
        ids = _decode(answer["token_ids_b64"], np.int32, shape)
        own = _decode(answer["actual_token_ids_b64"], np.int32, [*shape[:2], 1])
    except (TypeError, KeyError) as error:
        raise ValueError(f"no arrays of log-probabilities ({error!r})") from None
    expected = [len(tokens) - 1 for tokens in sequences]
    if lengths != expected or shape != [len(sequences), max(expected, default=0), k]:
        raise ValueError(f"an array of {shape} with lengths {lengths} instead of {expected}")
    kept = k if vocab_size is None else min(k, vocab_size)
    answers = []
    for row, tokens in enumerate(sequences):
        if own[row, : len(tokens) - 1, 0].tolist() != tokens[1:]:
            raise ValueError(f"answer {row} is of another sequence")
        answers.append(_read(ids[row], values[row], len(tokens), kept, vocab_size))
    return answers


def _read(
    ids: np.ndarray, values: np.ndarray, length: int, k: int, vocab_size: int | None
) -> Sequence:
    def positions() -> Iterable[tuple[int, list[int], list[float]]]:
        for number in range(length - 1):
            yield number, ids[number, :k].tolist(), values[number, :k].tolist()

    return to_sequence(length, positions(), vocab_size=vocab_size)


def _decode(text: str, dtype: Any, shape: list[int]) -> np.ndarray:
    content = base64.b64decode(text, validate=True)
    if len(content) != prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"an array of {len(content)} bytes does not have the shape {shape}")
    return np.frombuffer(content, dtype=dtype).reshape(shape)

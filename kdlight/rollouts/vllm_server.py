"""The requests to a vLLM server that a rollout needs, with their answers checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdlight.endpoints import Endpoint, RequestRefused, ServerError
from kdlight.models.sampling import Sampling
from kdlight.rollouts.served_model import ABSENT
from kdlight.rollouts.token_answers import Continuation, parse_continuation, parse_scores

DEVELOPER = (
    "; start the server with the environment variable VLLM_SERVER_DEV_MODE=1, which opens the"
    " requests for weights, and let nobody else reach it"
)
TOKENS = "; start the server with --enable-scale-out, which opens the requests by token ids"
NEVER = -100.0
"""The smallest bias of a logit, with which a token is not drawn."""

ADAPTER = "kdlight-rollouts"
"""The name under which a server holds the adapters of the student."""


class VLLMServer:
    """The requests of a rollout to one server.

    Args:
        endpoint: the server.

    Example:
        >>> VLLMServer(Endpoint("http://localhost:8000")).endpoint.url
        'http://localhost:8000'
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def generate(
        self,
        ids: Sequence[int],
        most: int,
        *,
        model: str,
        salt: str | None,
        sampling: Sampling,
        seed: int,
        end: Sequence[int],
        vocab_size: int | None,
        unknown: Sequence[int] = (),
    ) -> Continuation:
        """Return the continuation of ``ids`` by at most ``most`` tokens.

        Args:
            ids: the tokens before.
            most: maximal number of new tokens.
            model: the name of the model.
            salt: the server reuses what it computed for other sequences of the same salt only.
            sampling: temperature and top_p.
            seed: the seed of this sequence.
            end: ids of the tokens that end a text.
            vocab_size: number of tokens of the model, if it is known.
            unknown: ids that must not be drawn.
        """
        parameters = {
            "max_tokens": most,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # what a generation config could set otherwise
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "seed": seed,
            "ignore_eos": True,  # `end` tells what ends a text
            "stop_token_ids": list(end),
            "detokenize": False,
            **({"logit_bias": dict.fromkeys(map(str, unknown), NEVER)} if unknown else {}),
        }
        return self._by_tokens(
            {"model": model, "token_ids": list(ids), "sampling_params": parameters},
            salt=salt,
            what=f"a continuation of {len(ids)} tokens",
            accept=lambda answer: parse_continuation(answer.json(), most, end, vocab_size),
        )

    def score(self, ids: Sequence[int], *, model: str, salt: str | None) -> list[float]:
        """Return the log-probability of each token after the first."""
        parameters = {
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
            "detokenize": False,
        }
        return self._by_tokens(
            {"model": model, "token_ids": list(ids), "sampling_params": parameters},
            salt=salt,
            what=f"the log-probabilities of {len(ids)} tokens",
            accept=lambda answer: parse_scores(answer.json(), ids),
        )

    def _by_tokens(self, body: dict[str, Any], *, salt: str | None, **options: Any) -> Any:
        if salt is not None:
            body = {**body, "cache_salt": salt}
        try:
            return self.endpoint.post("/inference/v1/generate", json=body, **options)
        except RequestRefused as error:
            names_model = body["model"] in error.text  # it has this request, but not the model
            if names_model:
                raise
            raise _explained(error, TOKENS) from error

    def load(self, folder: Path) -> None:
        """Replace the weights by those in ``folder``."""
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
        try:
            self._change("/collective_rpc", body, f"to load the weights in {str(folder)!r}")
        except RequestRefused:
            raise
        except ServerError as error:  # vLLM does not say why
            raise ServerError(
                f"{error}. See that the server reads {str(folder)!r} under this path, which no"
                " other run may use",
                url=error.url,
            ) from error

    def load_adapter(self, folder: Path) -> str | None:
        """Replace the adapters by those in ``folder``; return their name, None if it cannot."""
        body = {"lora_name": ADAPTER, "lora_path": str(folder), "load_inplace": True}
        try:
            self.endpoint.post(
                "/v1/load_lora_adapter", json=body, what=f"to load the adapters in {str(folder)!r}"
            )
        except RequestRefused as error:
            if error.status in ABSENT:
                return None
            raise
        return ADAPTER

    def label(self, version: str) -> None:
        """Give the weights a label."""
        self._change("/update_weight_version", {"new_version": version}, "to label its weights")

    def _change(self, path: str, body: dict[str, Any], what: str) -> None:
        try:
            self.endpoint.post(path, json=body, what=what)
        except RequestRefused as error:
            raise _explained(error, DEVELOPER) from error


def _explained(error: RequestRefused, remedy: str) -> RequestRefused:
    """Return the error with what to do, if the server does not have the request at all."""
    if error.status not in ABSENT:
        return error
    return RequestRefused(f"{error}{remedy}", url=error.url, status=error.status, text=error.text)

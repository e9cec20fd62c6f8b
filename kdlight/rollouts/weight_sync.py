"""The weights of a student on their way to a server, and the proof that they arrived."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from kdlight.endpoints import ServerError
from kdlight.models.recipes.adapted_causal_lm import AdaptedCausalLM
from kdlight.rollouts.probe import largest_difference
from kdlight.rollouts.saved_weights import SavedWeights
from kdlight.rollouts.served_model import weight_version
from kdlight.rollouts.versions import loading
from kdlight.rollouts.vllm_server import VLLMServer

PATIENCE = 120.0
"""Seconds to wait for another rank that gives a server its weights again."""


@dataclass(frozen=True)
class Sent:
    """The weights that a server was given last; the same on all ranks.

    Attributes:
        step: the optimizer step after which the student had them.
        version: their label, which no other weights have.
        model: the name to generate with, which is another one for adapters.
        folder: where they are saved.
        is_adapter: whether they are adapters.
        probe: a text of token ids.
        scores: log-probabilities of the text by the student.
        error: largest difference of those of the server.
    """

    step: int
    version: str
    model: str
    folder: Path
    is_adapter: bool
    probe: list[int]
    scores: list[float]
    error: float = 0.0


class WeightSync:
    """Saves a student, has a server load it, and compares log-probabilities of a fixed text.

    Args:
        server: the server.
        model: the name of its model.
        saved: the folder that both can read.
        max_error: largest difference of a log-probability that is no error.
        labeled: whether the server keeps a label of its weights.
    """

    def __init__(
        self,
        server: VLLMServer,
        model: str,
        saved: SavedWeights,
        *,
        max_error: float,
        labeled: bool,
    ) -> None:
        self.server, self.model, self.saved = server, model, saved
        self.max_error, self.labeled = max_error, labeled
        self._sends_adapters: bool | None = None

    def send(
        self,
        network: Any,
        step: int,
        *,
        version: str,
        weights: Mapping[str, Tensor] | None,
        probe: list[int],
        scores: list[float],
    ) -> Sent:
        """Give the weights of a network to the server; only one process may do so.

        Args:
            network: the network.
            step: number of optimizer steps.
            version: the label of the weights.
            weights: the whole weights of a network that is sharded.
            probe: a text of token ids.
            scores: log-probabilities of its tokens by the network.

        Raises:
            ServerError: the server does not load them, or scores the text in another way.
        """
        self._announce(version)
        adapter, folder = None, None
        if self._sends_adapters is not False and isinstance(network, AdaptedCausalLM):
            folder = self.saved.save(network, version, state_dict=weights, adapter_only=True)
            adapter = self.server.load_adapter(folder)
        if adapter is None or folder is None:
            folder = self.saved.save(network, version, state_dict=weights)
            self.server.load(folder)
        self._tell(network, adapter is not None)
        sent = Sent(
            step=step,
            version=version,
            model=adapter or self.model,
            folder=folder,
            is_adapter=adapter is not None,
            probe=probe,
            scores=scores,
        )
        sent = replace(sent, error=self._finish(sent))
        self.saved.forget_others(folder)
        return sent

    def restore(self, sent: Sent) -> None:
        """Give the server weights again that it had, as after a restart; any process may do so."""
        if self.labeled and self._comes(sent):
            return
        self._announce(sent.version)
        if sent.is_adapter:
            self.server.load_adapter(sent.folder)
        else:
            self.server.load(sent.folder)
        self._finish(sent)

    def has(self, sent: Sent) -> bool:
        """Return whether the server still has the weights that it was sent."""
        if self.labeled:
            return self._label() == sent.version
        return self.difference(sent) <= self.max_error

    def difference(self, sent: Sent) -> float:
        """Return the largest difference of a log-probability of the text on the server."""
        scores = self.server.score(sent.probe, model=sent.model, salt=sent.version)
        return largest_difference(scores, sent.scores)

    def _finish(self, sent: Sent) -> float:
        """Compare the server with the student, and label its weights if they are the same."""
        error = self.difference(sent)
        if self.labeled and self._label() not in (loading(sent.version), sent.version):
            raise other_weights(self.server.endpoint.url)
        if not error <= self.max_error:  # NaN, too
            raise ServerError(
                f"after the weights of step {sent.step} were sent to {self.server.endpoint.url}, a"
                f" log-probability of a fixed text differs from that of the student by {error:.3g},"
                f" more than max_sync_error={self.max_error}; start the server with the exported"
                " student (and --dtype float32, unless the student is trained in bfloat16), see"
                f" that it reads {str(sent.folder)!r}, or raise max_sync_error",
                url=self.server.endpoint.url,
            )
        if self.labeled:
            self.server.label(sent.version)
        return error

    def _announce(self, version: str) -> None:
        """Take the label from the weights of a server that are replaced.

        Another run, which has sent those, would else take the next text for one of its own.
        """
        if self.labeled:
            self.server.label(loading(version))

    def _comes(self, sent: Sent) -> bool:
        """Return whether another rank gives the server these weights, after waiting for it."""
        deadline = time.monotonic() + PATIENCE
        while (label := self._label()) == loading(sent.version) and time.monotonic() < deadline:
            time.sleep(0.1)
        return label == sent.version

    def _label(self) -> str | None:
        return weight_version(self.server.endpoint)

    def _tell(self, network: Any, is_adapter: bool) -> None:
        if self._sends_adapters is None and isinstance(network, AdaptedCausalLM):
            what = "its adapters" if is_adapter else "its merged weights"
            rank_zero_info(f"VLLMRollouts sends {what} to {self.server.endpoint.url}")
        self._sends_adapters = is_adapter


def other_weights(url: str) -> ServerError:
    """Return the error of a server that has other weights whenever it is asked.

    Example:
        >>> str(other_weights("http://localhost:8000"))[:50]
        'http://localhost:8000 got other weights while it w'
    """
    return ServerError(
        f"{url} got other weights while it was used; let no other run change them, and start again"
        " from the last checkpoint",
        url=url,
    )

"""Text from a vLLM server that gets the weights of the student again and again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdlight.checks import check_integer, check_positive, check_type
from kdlight.endpoints import Endpoint
from kdlight.models.context import context_length
from kdlight.models.sampling import Sampling
from kdlight.rollouts.engine import RolloutEngine
from kdlight.rollouts.first_rank import on_first_rank
from kdlight.rollouts.own_weights import OwnWeights, own_weights, weights_of
from kdlight.rollouts.probe import network_size
from kdlight.rollouts.requested_texts import RequestedTexts
from kdlight.rollouts.room import check_served_room, room_in_context
from kdlight.rollouts.saved_weights import check_folder, saved_weights
from kdlight.rollouts.sending import send_from
from kdlight.rollouts.served_model import ServedModel, check_labels, describe_server
from kdlight.rollouts.vllm_server import VLLMServer
from kdlight.rollouts.weight_sync import Sent, WeightSync
from kdlight.rollouts.writer import Writer


class VLLMRollouts(RolloutEngine):
    """Generates on a vLLM server, several sequences at once.

    The server runs the exported student. It is started with ``--enable-scale-out``, for requests by
    token ids, and with the environment variable ``VLLM_SERVER_DEV_MODE=1``, for weights.

    Before the first text of a run, and then when the weights of the server are ``sync_every``
    optimizer steps old or older, the first rank saves the student in ``folder`` and the server
    loads it from there, while the other ranks wait. The server then scores a fixed text. The run
    ends with an error if a log-probability differs from the student's by more than
    ``max_sync_error``. Of a `kdlight.LoRACausalLM` the adapters alone are sent if the server can
    load them (``--enable-lora``, and ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=1``), else the merged
    weights; the log says which.

    A text that other weights wrote, as those that a restarted server begins with, is not used: the
    server gets the weights again, and the text is asked for again. Each text has a seed of its own,
    but a server that computes texts in other batches rounds differently, so that sampled texts need
    not repeat. What a generation config sets, such as a penalty for repetition, has no effect.

    Logged as ``train/rollouts/...``: ``sync_error``, the largest difference of a log-probability,
    and ``staleness``, the age of the server's weights in optimizer steps.

    Args:
        url: the address of the server.
        folder: where the student is saved for the server, which reads it under the same path. It
            belongs to one run; the weights of an earlier one in it are removed. None to generate
            with the weights that the server has.
        sync_every: number of optimizer steps after which the weights are sent again.
        max_sync_error: largest difference of a log-probability of the fixed text. That of float32
            on both sides is below 1e-3; bfloat16 may need more than the default.
        in_flight: number of sequences that each rank asks for at once.
        model: name of the model; None if the server has one.
        timeout: seconds to wait for a text.
        retries: how often a request is sent again while the server does not answer.
        token_variable: name of the environment variable with the server's token.

    Raises:
        ValueError: a number out of range, or no address.

    Example:
        >>> VLLMRollouts("http://localhost:8000", folder="rollouts", sync_every=4).sync_every
        4
    """

    def __init__(
        self,
        url: str,
        *,
        folder: str | None = None,
        sync_every: int = 1,
        max_sync_error: float = 0.05,
        in_flight: int = 16,
        model: str | None = None,
        timeout: float = 300.0,
        retries: int = 12,
        token_variable: str | None = None,
    ) -> None:
        check_integer("sync_every", sync_every, 1)
        check_positive("max_sync_error", max_sync_error)
        check_integer("in_flight", in_flight, 1)
        check_type("model", model, (str, type(None)), "the name of a model or None")
        check_folder(folder)
        endpoint = Endpoint(url, timeout=timeout, retries=retries, token_variable=token_variable)
        self.server, self.model, self.folder = VLLMServer(endpoint), model, folder
        self.sync_every, self.in_flight = sync_every, in_flight
        self.max_sync_error = float(max_sync_error)
        self.served: ServedModel | None = None
        self.sent: Sent | None = None
        self.step = 0
        self._sync: WeightSync | None = None
        self._own: OwnWeights | None = None
        self._labels: set[str] = set()
        self._run = ""

    def prepare(self, writer: Writer) -> None:
        """Ask the server what it runs, and check that the weights can be saved for it."""
        self.sent = self._sync = self._own = None
        self._labels = set()
        self.served = describe_server(self.server.endpoint, self.model)
        network = writer.network
        if network is None:
            self._own = own_weights(self.server, self.served, self.max_sync_error)
            return
        check_labels(self.served, self.server.endpoint.url)
        saved = saved_weights(self.folder, network)
        self._run = on_first_rank(saved.start_run)
        self._sync = WeightSync(
            self.server,
            self.served.name,
            saved,
            max_error=self.max_sync_error,
            labeled=self.served.version is not None,
        )

    def synchronise(self, writer: Writer, step: int) -> None:
        """Send the weights of the student, if those of the server are too old."""
        self.step, sync = step, self._sync
        if sync is None or (self.sent and 0 <= step - self.sent.step < self.sync_every):
            return
        self.sent = send_from(writer, sync, step=step, version=f"{self._run}-{step}")

    def generate(
        self,
        writer: Writer,
        prefixes: Sequence[Tensor],
        room: Sequence[int],
        *,
        sampling: Sampling,
        seed: int,
        end: Sequence[int],
    ) -> list[Tensor]:
        """Return each prefix with its continuation, see `RolloutEngine.generate`."""
        served = self._known()
        network, sent, sync = writer.network, self.sent, self._sync
        label = served.version if sent is None else sent.version
        size = None if network is None else network_size(network)
        known = writer.vocab_size or size  # the others must not be drawn
        texts = RequestedTexts(
            self.server,
            served.name if sent is None else sent.model,
            label if sync is None or sync.labeled else None,
            sampling,
            seed,
            tuple(end),
            known,
            self.in_flight,
            range(known or 0, size or 0),
            self._labels,
        )
        limits = room_in_context(prefixes, room, context_length(network))
        check_served_room(prefixes, limits, served.context, self.server.endpoint.url)
        asked = {i: (prefixes[i], most) for i, most in enumerate(limits) if most > 0}
        done = list(prefixes)
        for i, ids in texts.ask_all(asked, sync, sent).items():
            done[i] = torch.cat([prefixes[i], torch.tensor(ids, dtype=prefixes[i].dtype)])
        return done

    def check_unchanged(self) -> None:
        """Raise a ServerError if the server has another model than at the start."""
        if self._own is not None:
            self._own.check()

    @property
    def context(self) -> int | None:
        """Number of tokens of a text that the server can hold."""
        return self._known().context

    def names(self) -> list[str]:
        """Return the name of the model of the server, and where it was read from."""
        return [each for each in (self._known().name, self._known().root) if each is not None]

    def identity(self) -> dict[str, Any]:
        """Return software, name and origin of what the server runs, and a hash of its weights."""
        served = self._known()
        known = {"engine": served.software, "model": served.name, "root": served.root}
        own = self._sync is None  # otherwise the weights are those of a network
        return {**known, **({"weights": weights_of(self.server, served)} if own else {})}

    def metrics(self) -> dict[str, float]:
        """Return the error of the last synchronization, and the age of the weights in steps."""
        if self.sent is None:
            return {}
        return {"sync_error": self.sent.error, "staleness": float(self.step - self.sent.step)}

    def close(self) -> None:
        """Close the connections."""
        self.server.endpoint.close()

    def _known(self) -> ServedModel:
        if self.served is None:
            self.served = describe_server(self.server.endpoint, self.model)
        return self.served

"""Whether a server still has the model that it had at the start of the work."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from kdlight.endpoints import ServerError
from kdlight.rollouts.probe import LENGTH, largest_difference, probe_ids
from kdlight.rollouts.served_model import ServedModel, describe_server, served_weights
from kdlight.rollouts.versions import is_of_a_run
from kdlight.rollouts.vllm_server import VLLMServer

WEIGHTS = (".safetensors", ".bin", ".gguf")
"""Suffixes of files with weights."""

SIZE = 8
"""The fixed text has the first ids only, which every vocabulary has."""


@dataclass(frozen=True)
class OwnWeights:
    """What tells the model of a server from others, where no run sends it any weights.

    Attributes:
        server: the server.
        served: what it runs.
        weights: a hash of its weights; None if it computes none.
        scores: log-probabilities of a fixed text, which are used instead.
        max_error: largest difference of one that is rounding.
    """

    server: VLLMServer
    served: ServedModel
    weights: str | None
    scores: list[float]
    max_error: float

    def check(self) -> None:
        """Raise a ServerError if the server has another model by now, as after a restart."""
        served = describe_server(self.server.endpoint, self.served.name)
        known = (self.served.name, self.served.root, self.served.version)
        same = (served.name, served.root, served.version) == known
        if self.weights is not None:
            same = same and served_weights(self.server.endpoint) == self.weights
        else:
            difference = largest_difference(_scores(self.server, served), self.scores)
            same = same and difference <= self.max_error
        if not same:
            url = self.server.endpoint.url
            raise ServerError(
                f"{url} has another model than at the start, as after a restart; the last batch is"
                " not used. Start the server with the model of before and then this run again, or"
                " write to another file",
                url=url,
            )


def own_weights(server: VLLMServer, served: ServedModel, max_error: float) -> OwnWeights:
    """Return what tells the model of a server from others.

    Raises:
        ValueError: a run has replaced its weights, so that they are not those that it was started
            with.
    """
    if is_of_a_run(served.version):
        raise ValueError(
            f"{server.endpoint.url} does not have the weights of {served.root!r} any more: a run"
            f" with VLLMRollouts has replaced them (its label is {served.version!r}); start the"
            " server again, with the model that is to write the text"
        )
    weights = served_weights(server.endpoint)
    scores = [] if weights is not None else _scores(server, served)
    return OwnWeights(server, served, weights, scores, max_error)


def weights_of(server: VLLMServer, served: ServedModel) -> str | None:
    """Return a hash of the weights of a server, or of the files that it read them from.

    None if it computes none, and its files are not here.
    """
    weights = served_weights(server.endpoint)
    folder = None if served.root is None else Path(served.root)
    if weights is not None or folder is None or not folder.is_dir():
        return weights
    digest = sha256()
    for path in sorted(each for each in folder.iterdir() if each.suffix in WEIGHTS):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            while part := file.read(2**24):
                digest.update(part)
    return f"files {digest.hexdigest()[:16]}"


def _scores(server: VLLMServer, served: ServedModel) -> list[float]:
    length = LENGTH if served.context is None else min(LENGTH, served.context - 1)
    salt = token_hex(4)  # nothing that was computed before
    return server.score(probe_ids(SIZE, length), model=served.name, salt=salt)

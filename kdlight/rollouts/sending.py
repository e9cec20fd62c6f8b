"""Weights that the first rank sends, while all ranks take part in what is sent."""

from __future__ import annotations

from kdlight.rollouts.first_rank import on_first_rank
from kdlight.rollouts.probe import probe_of, token_log_probs
from kdlight.rollouts.weight_sync import Sent, WeightSync
from kdlight.rollouts.writer import Writer


def send_from(writer: Writer, sync: WeightSync, *, step: int, version: str) -> Sent:
    """Give the weights of a network to a server; called on all ranks.

    Args:
        writer: the network, which may be divided among ranks.
        sync: the way to the server.
        step: number of optimizer steps.
        version: the label of the weights.

    Raises:
        ServerError: see `kdlight.rollouts.weight_sync.WeightSync.send`.
    """
    weights = writer.weights()  # all ranks take part in this, and in the scores
    probe = probe_of(writer.network)
    scores = token_log_probs(writer, probe)
    options = {"version": version, "weights": weights, "probe": probe, "scores": scores}
    return on_first_rank(lambda: sync.send(writer.network, step, **options))

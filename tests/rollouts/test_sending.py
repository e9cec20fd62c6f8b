"""Weights on their way from a writer to a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kdlight import CausalLM
from kdlight.endpoints import Endpoint
from kdlight.rollouts import Writer
from kdlight.rollouts.saved_weights import SavedWeights
from kdlight.rollouts.sending import send_from
from kdlight.rollouts.vllm_server import VLLMServer
from kdlight.rollouts.weight_sync import WeightSync
from tests.support import tiny_lm
from tests.support.token_server import serve


def test_gathered_weights_are_those_that_arrive(tmp_path: Path) -> None:
    network: Any = CausalLM.wrap(tiny_lm.model(seed=4))
    calls: list[int] = []

    def gathered() -> dict[str, torch.Tensor]:
        calls.append(1)
        return network.state_dict()

    with serve(tiny_lm.save(tmp_path / "model")) as server:
        requests = VLLMServer(Endpoint(server.url, retries=0))
        saved = SavedWeights(tmp_path / "weights")
        sync = WeightSync(requests, "student", saved, max_error=1e-3, labeled=True)
        writer = Writer(network, weights=gathered)
        sent = send_from(writer, sync, step=2, version="0a1b2c3d-2")
        requests.endpoint.close()
        assert server.version == sent.version == "0a1b2c3d-2"
        torch.testing.assert_close(server.model.lm_head.weight, network.model.lm_head.weight)
    assert (sent.step, calls) == (2, [1])

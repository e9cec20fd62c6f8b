"""A server whose model changes while its text is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.responses import JSONResponse, Response

from kdlight import CausalLM
from kdlight.endpoints import ServerError
from kdlight.rollouts import VLLMRollouts, Writer
from tests.support import tiny_lm
from tests.support.token_server import TokenServer, serve


class NoSums(TokenServer):
    async def on_checksum(self, request: Any) -> Response:
        return JSONResponse({}, 404)


@pytest.fixture(params=[True, False], ids=["checksums", "no checksums"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TokenServer]:
    tiny_lm.model(seed=1).save_pretrained(tmp_path / "other")
    if not request.param:
        monkeypatch.setattr(TokenServer, "on_checksum", NoSums.on_checksum)
    with serve(tiny_lm.save(tmp_path / "model")) as state:
        yield state


@pytest.fixture
def engine(server: TokenServer) -> Iterator[VLLMRollouts]:
    made = VLLMRollouts(server.url, retries=0)
    made.prepare(Writer(None))
    yield made
    made.close()


def test_the_same_model_is_no_error(server: TokenServer, engine: VLLMRollouts) -> None:
    engine.check_unchanged()
    server.restart()
    engine.check_unchanged()


def test_a_restart_with_other_weights_is_noticed(
    server: TokenServer, engine: VLLMRollouts, tmp_path: Path
) -> None:
    origin, server.folder = server.folder, tmp_path / "other"
    server.restart()
    server.folder = origin  # the same name, place and label
    with pytest.raises(ServerError, match="has another model than at the start, as after a"):
        engine.check_unchanged()


@pytest.mark.parametrize(("name", "value"), [("version", "new"), ("folder", Path("elsewhere"))])
def test_another_label_or_place_is_noticed(
    name: str, value: Any, server: TokenServer, engine: VLLMRollouts
) -> None:
    setattr(server, name, value)
    with pytest.raises(ServerError, match="has another model than at the start"):
        engine.check_unchanged()


def test_a_server_that_a_run_has_trained_is_not_that_of_its_folder(
    server: TokenServer, tmp_path: Path
) -> None:
    network: Any = CausalLM.wrap(tiny_lm.model(seed=5))
    trained = VLLMRollouts(server.url, folder=str(tmp_path / "weights"))
    trained.prepare(Writer(network))
    trained.synchronise(Writer(network), 3)
    trained.check_unchanged()  # it gets its weights from this run
    trained.close()
    other = VLLMRollouts(server.url)
    with pytest.raises(ValueError, match="does not have the weights of .* any more: a run with"):
        other.prepare(Writer(None))
    other.close()
    torch.testing.assert_close(server.model.lm_head.weight, network.model.lm_head.weight)


def test_another_export_has_another_identity(server: TokenServer, tmp_path: Path) -> None:
    """So that a file of traces is not continued by it, whether the server has checksums or not."""
    engine = VLLMRollouts(server.url)
    before = engine.identity()
    assert engine.identity() == before
    tiny_lm.model(seed=2).save_pretrained(server.folder)
    server.restart()
    assert engine.identity() != before
    engine.close()

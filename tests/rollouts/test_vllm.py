"""Text from a server that speaks as vLLM does, with weights that follow the student's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.responses import JSONResponse, Response

from kdlight import CausalLM
from kdlight.endpoints import ServerError
from kdlight.models import Sampling
from kdlight.rollouts import HuggingFaceRollouts, VLLMRollouts, Writer
from tests.support import tiny_lm
from tests.support.gloo import run_on_ranks
from tests.support.token_server import TokenServer, serve

GREEDY: dict[str, Any] = {"sampling": Sampling(temperature=0.0), "seed": 0, "end": [0]}
PREFIXES = [torch.tensor([3, 4, 5]), torch.tensor([7]), torch.tensor([8, 9, 10, 11, 12])]
ROOM = [6, 12, 3]


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    tiny_lm.save(folder)
    return folder


def student(seed: int = 0) -> Any:
    network = tiny_lm.model(seed=seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)
    return CausalLM.wrap(network)


OPEN: list[VLLMRollouts] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def engine_of(server: TokenServer, **options: Any) -> VLLMRollouts:
    OPEN.append(VLLMRollouts(server.url, **options))
    return OPEN[-1]


def rollouts(server: TokenServer, folder: Path, **options: Any) -> VLLMRollouts:
    return engine_of(server, folder=str(folder / "weights"), **options)


def prepared(server: TokenServer, folder: Path, network: Any, **options: Any) -> VLLMRollouts:
    engine = rollouts(server, folder, **options)
    engine.prepare(Writer(network))
    engine.synchronise(Writer(network), 0)
    return engine


def expected(network: Any, **options: Any) -> list[list[int]]:
    made = HuggingFaceRollouts().generate(Writer(network), PREFIXES, ROOM, **{**GREEDY, **options})
    return [ids.tolist() for ids in made]


def texts(engine: VLLMRollouts, network: Any, **options: Any) -> list[list[int]]:
    made = engine.generate(Writer(network), PREFIXES, ROOM, **{**GREEDY, **options})
    return [ids.tolist() for ids in made]


def test_the_server_writes_what_the_student_would_write(exported: Path, tmp_path: Path) -> None:
    """Though it was started with other weights."""
    network = student()
    with serve(exported) as server:
        engine = prepared(server, tmp_path, network)
        assert texts(engine, network) == expected(network)
        metrics = engine.metrics()
    assert metrics["staleness"] == 0
    assert metrics["sync_error"] < 1e-3


def test_a_text_ends_with_its_first_end_token_and_keeps_it(exported: Path, tmp_path: Path) -> None:
    network = student()
    end = [expected(network)[1][4], expected(network)[0][5]]
    with serve(exported) as server:
        engine = prepared(server, tmp_path, network)
        assert texts(engine, network, end=end) == expected(network, end=end)


def test_weights_are_sent_again_when_they_are_as_old_as_allowed(
    exported: Path, tmp_path: Path
) -> None:
    first, second = student(), student(seed=1)
    with serve(exported) as server:
        engine = prepared(server, tmp_path, first, sync_every=3)
        ages = []
        for step in (0, 1, 2):
            engine.synchronise(Writer(second), step)
            ages.append(engine.metrics()["staleness"])
            assert texts(engine, second) == expected(first)
        assert ages == [0, 1, 2]
        engine.synchronise(Writer(second), 3)
        assert engine.metrics()["staleness"] == 0
        assert texts(engine, second) == expected(second)
        assert len(server.loaded) == 2
        engine.synchronise(Writer(first), 1)  # a run that went back to a checkpoint
        assert texts(engine, first) == expected(first)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [
        Path(server.loaded[-1]).name
    ]


@pytest.mark.parametrize("labeled", [True, False])
def test_a_server_that_restarts_gets_the_weights_again(
    exported: Path, tmp_path: Path, labeled: bool
) -> None:
    network = student()

    def restarts(server: TokenServer, body: dict[str, Any], number: int) -> Response | None:
        if number == 2:  # the first request is the probe
            server.restart()
        return None

    with serve(exported, labeled=labeled, fault=restarts) as server:
        engine = prepared(server, tmp_path, network, in_flight=1)
        assert texts(engine, network) == expected(network)
        assert len(server.loaded) == 2


def test_a_server_that_always_has_other_weights_is_an_error(exported: Path, tmp_path: Path) -> None:
    def takes_away(server: TokenServer, body: dict[str, Any], number: int) -> None:
        if "stop_token_ids" in body["sampling_params"]:
            server.version = "another run"

    with serve(exported, fault=takes_away) as server:
        engine = prepared(server, tmp_path, student())
        with pytest.raises(ServerError, match=f"{server.url} got other weights while it was used"):
            texts(engine, student())


@pytest.mark.parametrize("kind", ["busy", "cut", "no json", "half", "other ids", "no choice"])
def test_a_damaged_answer_costs_a_retry_and_not_a_prompt(
    exported: Path, tmp_path: Path, kind: str
) -> None:
    network, failed = student(), set()

    def breaks(server: TokenServer, body: dict[str, Any], number: int) -> Response | None:
        text = tuple(body["token_ids"])
        if text in failed:
            return None
        failed.add(text)
        whole = server.generate(body)
        choice = whole["choices"][0]
        if kind == "half":
            choice["token_ids"] = choice["token_ids"][:-1]
        if kind == "other ids":
            choice["token_ids"] = [102] * len(choice["token_ids"])
        if kind == "no choice":
            whole["choices"] = []
        return {
            "busy": JSONResponse({}, 503),
            "no json": Response("<html>a proxy</html>"),
            "cut": Response(b'{"choices": [{"tok'),
        }.get(kind) or JSONResponse(whole)

    with serve(exported) as server:
        engine = prepared(server, tmp_path, network)
        server.fault = breaks
        assert texts(engine, network) == expected(network)
        assert len(failed) == len(PREFIXES)


def test_other_weights_on_the_server_are_refused(exported: Path, tmp_path: Path) -> None:
    network = student()
    with serve(exported) as server:
        server.load = lambda folder: None
        engine = rollouts(server, tmp_path)
        engine.prepare(Writer(network))
        with pytest.raises(ServerError, match="a log-probability of a fixed text differs .* by .*"):
            engine.synchronise(Writer(network), 0)


def test_no_text_is_cut_by_the_context_of_the_server(exported: Path, tmp_path: Path) -> None:
    network = student()
    with serve(exported, context=12) as server:
        engine = prepared(server, tmp_path, network)
        with pytest.raises(
            ValueError, match="a text of 1 tokens is to be continued by 12, but the"
        ):
            texts(engine, network)


def test_nothing_to_continue_asks_nothing(exported: Path, tmp_path: Path) -> None:
    network = student()
    with serve(exported) as server:
        engine = prepared(server, tmp_path, network)
        before = len(server.asked)
        assert engine.generate(Writer(network), [], [], **GREEDY) == []
        (same,) = engine.generate(Writer(network), PREFIXES[:1], [0], **GREEDY)
        assert same is PREFIXES[0]
        assert len(server.asked) == before


def test_a_seed_is_that_of_a_text_whatever_is_asked_beside_it(
    exported: Path, tmp_path: Path
) -> None:
    network, sampled = student(), {"sampling": Sampling(), "end": []}
    state = torch.get_rng_state()
    with serve(exported) as server:
        engine = prepared(server, tmp_path, network)
        one = texts(engine, network, seed=3, **sampled)
        assert texts(engine, network, seed=3, **sampled) == one
        assert texts(engine, network, seed=4, **sampled) != one
        asked = [body for body in server.asked if "stop_token_ids" in body["sampling_params"]]
        assert len({body["cache_salt"] for body in asked}) == 3  # of each call
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_network_the_server_writes_as_it_is(exported: Path) -> None:
    with serve(exported) as server:
        engine = engine_of(server)
        engine.prepare(Writer(None))
        engine.synchronise(Writer(None), 0)
        assert texts(engine, None) == expected(CausalLM.wrap(server.model))
        assert engine.metrics() == {}
        assert engine.names() == ["student", str(exported)]
        assert engine.context == 256
        before = engine.identity()
        assert before["engine"] == "vLLM 0.0 (a test)"
        server.model.lm_head.weight.data.mul_(2)
        assert engine.identity()["weights"] != before["weights"]


def test_what_is_missing_is_said_before_the_work(exported: Path, tmp_path: Path) -> None:
    with serve(exported) as server:
        with pytest.raises(ValueError, match="VLLMRollouts has folder=None"):
            engine_of(server).prepare(Writer(student()))
        with pytest.raises(ValueError, match="Linear has no save_pretrained"):
            rollouts(server, tmp_path).prepare(Writer(torch.nn.Linear(2, 2)))
        with pytest.raises(ValueError, match=r"model is 'other', but .* serves \['student'\]"):
            rollouts(server, tmp_path, model="other").prepare(Writer(student()))


@pytest.mark.parametrize(
    ("name", "value"), [("sync_every", 0), ("max_sync_error", 0.0), ("in_flight", 0)]
)
def test_arguments_outside_their_range_are_refused(name: str, value: Any) -> None:
    options = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be"):
        VLLMRollouts("http://localhost:1", **options)


@pytest.mark.parametrize("adapters", [True, False])
def test_adapters_are_sent_alone_where_the_server_can_load_them(
    exported: Path, tmp_path: Path, adapters: bool
) -> None:
    network = adapted(exported)
    with serve(exported, adapters=adapters) as server:
        engine = prepared(server, tmp_path, network)
        assert texts(engine, network) == expected(network)
        (folder,) = (tmp_path / "weights").iterdir()
        assert (folder / "adapter_model.safetensors").exists() == adapters
        assert (folder / "model.safetensors").exists() != adapters
        if adapters:
            server.restart()  # which has no adapters
            assert texts(engine, network) == expected(network)
            assert len(server.loaded) == 2


def adapted(exported: Path) -> Any:
    from kdlight import LoRACausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = LoRACausalLM(str(exported), r=4, target_modules=["q_proj", "v_proj"])
    built = network.build(None) if hasattr(network, "build") else network
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=2.0, generator=generator)
    return built


@pytest.mark.parametrize("labeled", [True, False])
def test_what_a_server_computed_with_other_weights_is_not_used(
    exported: Path, tmp_path: Path, labeled: bool
) -> None:
    """A server keeps that through a change of its weights, for all texts of one salt."""
    network = student()
    with serve(exported, labeled=labeled, caches=True) as server:
        engine = prepared(server, tmp_path, network)
        assert texts(engine, network) == expected(network)
        server.restart()
        assert texts(engine, network) == expected(network)
        assert len(server.loaded) == 2


def test_a_text_is_not_kept_beside_one_of_other_weights(exported: Path, tmp_path: Path) -> None:
    network, restarted = student(), []

    def restarts(server: TokenServer, body: dict[str, Any], number: int) -> None:
        if tuple(body["token_ids"]) == tuple(PREFIXES[1].tolist()) and not restarted:
            restarted.append(number)
            server.restart()

    with serve(exported, caches=True) as server:
        engine = prepared(server, tmp_path, network, in_flight=1)
        server.fault = restarts
        assert texts(engine, network) == expected(network)
        asked = [body for body in server.asked if "stop_token_ids" in body["sampling_params"]]
        assert len(asked) == 2 * len(PREFIXES)


def test_a_server_may_label_texts_without_telling_its_label(exported: Path) -> None:
    """As one that is started without VLLM_SERVER_DEV_MODE."""
    with serve(exported, developer=False) as server:
        engine = engine_of(server)
        engine.prepare(Writer(None))
        assert texts(engine, None) == expected(CausalLM.wrap(server.model))
        server.version = "of another run"
        with pytest.raises(ServerError, match="got other weights while it was used"):
            texts(engine, None)


def refused(rank: int, *, url: str, folder: str) -> None:
    engine = VLLMRollouts(url, folder=folder)
    with pytest.raises(ValueError, match="keeps no label of its weights, without which several"):
        engine.prepare(Writer(student()))
    engine.close()


@pytest.mark.slow
def test_several_ranks_need_a_server_with_labels(exported: Path, tmp_path: Path) -> None:
    with serve(exported, labeled=False) as server:
        run_on_ranks(partial(refused, url=server.url, folder=str(tmp_path / "w")), tmp_path)

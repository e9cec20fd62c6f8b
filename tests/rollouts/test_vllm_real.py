"""Rollouts through a real vLLM server: the text is the student's own, whatever weights it had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight import CausalLM
from kdlight.models import Sampling
from kdlight.rollouts import HuggingFaceRollouts, VLLMRollouts, Writer
from tests.support import tiny_lm
from tests.support.vllm_server import RunningServer, restored

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

PREFIXES = [torch.tensor([3, 4, 5]), torch.tensor([7]), torch.arange(2, 92)]
ROOM = [6, 24, 30]
GREEDY: dict[str, Any] = {"sampling": Sampling(temperature=0.0), "seed": 0}


@pytest.fixture
def server(vllm_server: RunningServer) -> Iterator[RunningServer]:
    with restored(vllm_server):
        yield vllm_server


@pytest.fixture
def engine(server: RunningServer, tmp_path: Path) -> Iterator[VLLMRollouts]:
    made = VLLMRollouts(server.url, folder=str(tmp_path / "weights"), max_sync_error=1e-3)
    yield made
    made.close()


def same_text(engine: VLLMRollouts, network: Any, end: list[int]) -> bool:
    writer = Writer(network)
    served = engine.generate(writer, PREFIXES, ROOM, end=end, **GREEDY)
    own = HuggingFaceRollouts().generate(writer, PREFIXES, ROOM, end=end, **GREEDY)
    return all(torch.equal(a, b) for a, b in zip(served, own, strict=True))


def test_it_writes_what_the_student_would_write_after_each_step(engine: VLLMRollouts) -> None:
    """Also where a long prefix, which the server keeps, was computed with older weights."""
    engine.prepare(Writer(CausalLM.wrap(tiny_lm.model(dim=64))))
    for step in range(3):
        network = CausalLM.wrap(tiny_lm.model(dim=64, seed=10 + step))
        engine.synchronise(Writer(network), step)
        assert engine.metrics()["sync_error"] < 1e-4
        assert same_text(engine, network, [])
        (text,) = HuggingFaceRollouts().generate(
            Writer(network), PREFIXES[:1], [6], end=[], **GREEDY
        )
        assert same_text(engine, network, [int(text[5]), 0])


def test_ids_that_a_teacher_does_not_know_are_not_drawn(engine: VLLMRollouts) -> None:
    network = CausalLM.wrap(tiny_lm.model(dim=64, seed=3))
    engine.prepare(Writer(network))
    engine.synchronise(Writer(network), 0)
    writer = Writer(network, vocab_size=20)
    options: dict[str, Any] = {"sampling": Sampling(), "seed": 0, "end": []}
    texts = engine.generate(writer, PREFIXES, ROOM, **options)
    drawn = torch.cat([text[len(p) :] for text, p in zip(texts, PREFIXES, strict=True)])
    assert int(drawn.max()) < 20
    assert len(drawn.unique()) > 10


def test_sampled_text_has_the_seed_of_its_place(engine: VLLMRollouts) -> None:
    network = CausalLM.wrap(tiny_lm.model(dim=64, seed=3))
    engine.prepare(Writer(network))
    engine.synchronise(Writer(network), 0)

    def draw(seed: int) -> list[list[int]]:
        made = engine.generate(
            Writer(network), PREFIXES, ROOM, sampling=Sampling(), seed=seed, end=[]
        )
        return [text.tolist() for text in made]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    frequencies = torch.zeros(102)
    prefix = torch.tensor([3, 4, 5])
    for text in engine.generate(
        Writer(network), [prefix] * 600, [1] * 600, sampling=Sampling(), seed=5, end=[]
    ):
        frequencies[text[-1]] += 1 / 600
    logits = network({"input_ids": prefix[None]}).logits()[0, -1].detach()
    expected = torch.softmax(logits, -1)
    bound = 5 * (expected * (1 - expected) / 600).sqrt()
    assert ((frequencies - expected).abs() < bound + 1 / 600).all()


def test_adapters_are_sent_alone(
    engine: VLLMRollouts, server: RunningServer, tmp_path: Path
) -> None:
    from kdlight import LoRACausalLM

    network: Any = LoRACausalLM(
        str(server.folder), r=4, target_modules=["q_proj", "v_proj"]
    ).build()
    engine.prepare(Writer(network))
    for step in range(2):
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=2.0, generator=generator)
        engine.synchronise(Writer(network), step)
        assert engine.sent is not None
        assert engine.sent.is_adapter
        assert same_text(engine, network, [0])
    (folder,) = (tmp_path / "weights").iterdir()
    assert (folder / "adapter_model.safetensors").exists()


def test_weights_that_another_run_sends_are_noticed(
    engine: VLLMRollouts, server: RunningServer, tmp_path: Path
) -> None:
    network, other = (CausalLM.wrap(tiny_lm.model(dim=64, seed=seed)) for seed in (3, 4))
    engine.prepare(Writer(network))
    engine.synchronise(Writer(network), 0)
    intruder = VLLMRollouts(server.url, folder=str(tmp_path / "other"))
    intruder.prepare(Writer(other))
    intruder.synchronise(Writer(other), 0)
    intruder.close()
    assert same_text(engine, network, [])  # it was given its weights again

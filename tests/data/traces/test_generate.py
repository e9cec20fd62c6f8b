"""Responses are sampled reproducibly, and an interrupted run is resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kdlight.data import read_traces
from kdlight.data.traces import Trace
from kdlight.data.traces.generate import generate_traces
from kdlight.data.written_files import exclusive
from kdlight.models import Sampling
from tests.support import tiny_lm

ROOT = Path(__file__).parents[3]


PROMPTS = [Trace(f"{i} + 1 =", "", answer=i + 1) for i in range(7)]


SAMPLING = Sampling(max_new_tokens=6, temperature=1.0, seed=5)


@pytest.fixture(scope="module")
def network() -> Any:
    return tiny_lm.model().eval()


def make(network: Any, path: Path, prompts: list[Trace] = PROMPTS, **options: Any) -> Path:
    return generate_traces(
        network,
        tiny_lm.tokenizer(),
        prompts,
        path,
        **{
            "sampling": SAMPLING,
            "samples": 3,
            "chat": False,
            "batch_size": 4,
            "teacher": "tiny",
            **options,
        },
    )


def test_every_prompt_gets_the_number_of_samples(network: Any, tmp_path: Path) -> None:
    traces = read_traces(str(make(network, tmp_path / "t.jsonl")))
    assert [trace.prompt for trace in traces] == [p.prompt for p in PROMPTS for _ in range(3)]
    assert {trace.teacher for trace in traces} == {"tiny"}
    assert [trace.answer for trace in traces[::3]] == [p.answer for p in PROMPTS]
    assert len({trace.response for trace in traces[:3]}) > 1
    for trace in traces:
        assert trace.finished == (trace.n_tokens == len(trace.response) + 1)
        assert trace.n_tokens is not None
        assert trace.n_tokens <= 6


def test_the_seed_decides_and_nothing_else_is_touched(network: Any, tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = make(network, tmp_path / "a.jsonl").read_bytes()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert make(network, tmp_path / "b.jsonl").read_bytes() == first
    other = make(network, tmp_path / "c.jsonl", sampling=replace(SAMPLING, seed=6))
    assert other.read_bytes() != first


@pytest.mark.parametrize("cut", [0, 1, 5, 700, -1, -7])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(
    cut: int, network: Any, tmp_path: Path
) -> None:
    whole = make(network, tmp_path / "t.jsonl")
    expected = whole.read_bytes()
    whole.write_bytes(expected[:cut])
    assert make(network, whole).read_bytes() == expected
    assert make(network, whole).read_bytes() == expected  # nothing is left to do


def test_another_run_is_not_resumed_in_the_same_file(network: Any, tmp_path: Path) -> None:
    path = make(network, tmp_path / "t.jsonl")
    with pytest.raises(
        ValueError, match=r"started with other settings \(seed: 5 in the file, 6 now\)"
    ):
        make(network, path, sampling=replace(SAMPLING, seed=6))
    with pytest.raises(ValueError, match="prompts: "):
        make(network, path, prompts=[*PROMPTS[1:], PROMPTS[0]])
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match="was not started by kdlight"):
        make(network, tmp_path / "mine.jsonl")


def test_another_teacher_is_not_resumed_in_the_same_file(network: Any, tmp_path: Path) -> None:
    """Whatever its name is, such as that of a folder that was written over."""
    path = make(network, tmp_path / "t.jsonl")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"other settings \(weights: "):
        make(tiny_lm.model(seed=1).eval(), path)
    with pytest.raises(ValueError, match=r"dtype: 'torch.float32' in the file, 'torch.bfloat16'"):
        make(tiny_lm.model().bfloat16().eval(), path)
    penalty = tiny_lm.model().eval()
    penalty.generation_config.repetition_penalty = 1.5
    with pytest.raises(ValueError, match=r"other settings \(generation config: "):
        make(penalty, path)
    assert path.read_bytes() == before


def test_another_tokenizer_is_not_resumed_in_the_same_file(network: Any, tmp_path: Path) -> None:
    path, tokenizer = tmp_path / "t.jsonl", tiny_lm.tokenizer(chat=True)
    options: dict[str, Any] = {"sampling": SAMPLING, "chat": True, "samples": 1}
    generate_traces(network, tokenizer, PROMPTS, path, **options)
    tokenizer.chat_template += " "
    with pytest.raises(ValueError, match=r"other settings \(tokenizer: "):
        generate_traces(network, tokenizer, PROMPTS, path, **options)


NUMBERS = {prompt.prompt_id: i % 3 for i, prompt in enumerate(PROMPTS)}


def test_each_prompt_gets_its_number_of_samples(network: Any, tmp_path: Path) -> None:
    traces = read_traces(str(make(network, tmp_path / "t.jsonl", samples=NUMBERS)))
    expected = [p.prompt for i, p in enumerate(PROMPTS) for _ in range(i % 3)]
    assert [trace.prompt for trace in traces] == expected
    assert [t.meta["generation"] for t in traces] == [n for i in range(7) for n in range(i % 3)]
    path = tmp_path / "samples.json"
    path.write_text(json.dumps(dict(reversed(NUMBERS.items()))))
    again = make(network, tmp_path / "again.jsonl", samples=str(path))
    assert again.read_bytes() == (tmp_path / "t.jsonl").read_bytes()


@pytest.mark.parametrize("cut", [0, 5, 700, -1])
def test_a_run_with_numbers_is_resumed_to_the_same_bytes(
    cut: int, network: Any, tmp_path: Path
) -> None:
    path = make(network, tmp_path / "t.jsonl", samples=NUMBERS, batch_size=2)
    expected = path.read_bytes()
    path.write_bytes(expected[:cut])
    assert make(network, path, samples=NUMBERS, batch_size=2).read_bytes() == expected


def test_a_run_with_other_numbers_is_not_resumed(network: Any, tmp_path: Path) -> None:
    path = make(network, tmp_path / "t.jsonl", samples=NUMBERS)
    before = path.read_bytes()
    name = PROMPTS[1].prompt_id
    for other in ({**NUMBERS, name: 2}, {**NUMBERS, name: 0, PROMPTS[0].prompt_id: 1}, 3):
        with pytest.raises(ValueError, match="other settings .samples: '6 for 7 prompts, .* now"):
            make(network, path, samples=other)
    assert path.read_bytes() == before


def test_a_prompt_without_samples_may_be_too_long(network: Any, tmp_path: Path) -> None:
    long = Trace("x" * 300, "", prompt_id="long")
    with pytest.raises(ValueError, match="prompt 'long' has 300 tokens"):
        make(network, tmp_path / "t.jsonl", prompts=[*PROMPTS, long], samples=1)
    numbers = {**NUMBERS, "long": 0}
    path = make(network, tmp_path / "t.jsonl", prompts=[*PROMPTS, long], samples=numbers)
    assert len(read_traces(str(path))) == sum(NUMBERS.values())


def test_lines_that_two_runs_wrote_are_counted_once(network: Any, tmp_path: Path) -> None:
    path = make(network, tmp_path / "t.jsonl")
    expected = path.read_bytes()
    lines = expected.splitlines(keepends=True)
    batches = [lines[i : i + 4] for i in range(0, len(lines), 4)]
    for twice in (lines * 2, [line for batch in batches for line in batch * 2], lines[:4] * 2):
        path.write_bytes(b"".join(twice))
        assert make(network, path).read_bytes() == expected


def test_two_runs_do_not_write_one_file(network: Any, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with exclusive(path), pytest.raises(ValueError, match="another process writes .*t.jsonl"):
        make(network, path)
    assert not path.exists()
    assert len(read_traces(str(make(network, path)))) == 21


def test_a_file_of_an_earlier_version_is_not_emptied(network: Any, tmp_path: Path) -> None:
    path = make(network, tmp_path / "t.jsonl")
    settings = path.with_name("t.jsonl.settings.json")
    saved = json.loads(settings.read_text())
    del saved["version"]
    settings.write_text(json.dumps(saved))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"other settings \(version: None in the file, 2 now\)"):
        make(network, path)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_a_killed_command_loses_and_repeats_nothing(network: Any, tmp_path: Path) -> None:
    source = tiny_lm.save(tmp_path / "model")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(p.to_json() for p in PROMPTS))

    path = tmp_path / "killed.jsonl"
    arguments = {
        "source": source,
        "prompts": prompts,
        "output": path,
        "samples": 40,
        "sampling.max_new_tokens": 60,
        "sampling.temperature": 1.0,
        "batch_size": 4,
    }
    given = [f"--{name}={value}" for name, value in arguments.items()]
    command = [sys.executable, "-m", "kdlight.cli", "traces", "generate", *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (path.exists() and path.stat().st_size > 2000):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()  # type: ignore[union-attr]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = path.read_bytes().count(b"\n")
    assert 0 < done < 280
    subprocess.run(command, env=environment, check=True, capture_output=True)
    sampling = Sampling(max_new_tokens=60, temperature=1.0)
    options = {"samples": 40, "sampling": sampling, "teacher": source}
    whole = make(network, tmp_path / "whole.jsonl", **options)
    assert path.read_bytes() == whole.read_bytes()
    assert path.read_bytes().count(b"\n") == 280


def test_the_weights_of_a_model_are_sent_to_an_engine(network: Any, tmp_path: Path) -> None:
    from kdlight.rollouts import VLLMRollouts
    from tests.support.token_server import serve

    greedy = replace(SAMPLING, temperature=0.0)
    expected = make(network, tmp_path / "local.jsonl", sampling=greedy).read_bytes()
    tiny_lm.model(seed=4).save_pretrained(tmp_path / "other")
    with serve(tmp_path / "other") as server:
        engine = VLLMRollouts(server.url, folder=str(tmp_path / "weights"))
        served = make(network, tmp_path / "served.jsonl", sampling=greedy, engine=engine)
        assert served.read_bytes() == expected
        assert len(server.loaded) == 1
        with pytest.raises(ValueError, match="was started with other settings"):
            make(network, tmp_path / "local.jsonl", sampling=greedy, engine=engine)
    with pytest.raises(ValueError, match="model is None, but HuggingFaceRollouts"):
        make(None, tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        (
            {"samples": {"a": 1}},
            "samples and prompts must have the same prompt ids, but 'a' is only",
        ),
        ({"samples": dict.fromkeys(NUMBERS, 0)}, "samples must ask for at least one response"),
        ({"samples": "none.json"}, "samples: none.json does not exist"),
        ({"sampling": Sampling()}, "sampling.max_new_tokens must be"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"prompts": []}, "prompts must hold at least one prompt"),
        ({"prompts": [*PROMPTS, PROMPTS[0]]}, "prompts must have different ids"),
        ({"sampling": Sampling(max_new_tokens=300)}, "the context of the model is 256"),
    ],
)
def test_bad_arguments_are_named(options: Any, message: str, network: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        make(network, tmp_path / "t.jsonl", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_gets_another_model_writes_no_more(network: Any, tmp_path: Path) -> None:
    from kdlight.endpoints import ServerError
    from kdlight.rollouts import VLLMRollouts
    from tests.support.token_server import serve

    model, other = Path(tiny_lm.save(tmp_path / "model")), tmp_path / "other"
    tiny_lm.model(seed=4).save_pretrained(other)
    options: dict[str, Any] = {"sampling": replace(SAMPLING, temperature=0.0), "batch_size": 4}

    def swap(server: Any, body: Any, number: int) -> None:
        if number == 6:  # in the second batch
            server.folder = other
            server.restart()
            server.folder = model

    with serve(model) as server:
        engine = VLLMRollouts(server.url)
        whole = make(None, tmp_path / "whole.jsonl", engine=engine, **options).read_bytes()
    with serve(model, fault=swap) as server:
        engine, path = VLLMRollouts(server.url), tmp_path / "part.jsonl"
        with pytest.raises(ServerError, match="has another model than at the start"):
            make(None, path, engine=engine, **options)
        lines = whole.splitlines(keepends=True)
        assert path.read_bytes() == b"".join(lines[:4])
        server.restart()
        server.fault = None
        assert make(None, path, engine=engine, **options).read_bytes() == whole

"""The table of `make gpu`: a row for whatever happens, and the wheels that it needs."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
import torch

from tests.benchmarks import gpu, gpu_heads, gpu_table, wheels
from tests.benchmarks.head_cases import Case, work

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of torch.compile


def test_a_part_that_fails_or_hangs_is_one_line() -> None:
    assert gpu_table.run(["-c", "print(2)"], 60) == ("2\n", "")
    assert gpu_table.run(["-c", "raise ValueError('of this')"], 60) == ("", "ValueError: of this")
    assert gpu_table.run(["-c", "import time; time.sleep(60)"], 1)[1] == "stopped after 1 s"


def test_the_outcome_of_a_test_fits_into_a_row() -> None:
    made = {
        "<testcase/>": "passed",
        "<testcase><skipped message='needs a GPU'/></testcase>": "skipped: needs a GPU",
        "<testcase name='one'><error message='a | b &#10; c'/></testcase>": "error: a / b c",
        "<testcase name='one[x-2]'><failure message='no'/></testcase>": "failure [x-2]: no",
    }
    assert {text: gpu_table.outcome(fromstring(text)) for text in made} == made


def test_without_wheels_the_table_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "MODULES", ("no_such_module",))
    monkeypatch.setattr(gpu, "WHEELS", tmp_path)
    assert gpu.main(["--device", "cpu", "--output", str(tmp_path)]) == 1
    assert "['no_such_module'] cannot be imported" in (tmp_path / "gpu.md").read_text()


def test_the_heads_of_the_gpu_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def in_this_process(command: list[str], limit: float) -> tuple[str, str]:
        monkeypatch.setattr("sys.argv", command[1:])
        gpu_heads.main()
        return capsys.readouterr().out, ""

    monkeypatch.setattr(gpu, "run", in_this_process)
    monkeypatch.setattr(gpu, "HEAD_CODES", ("ours", "plain", "liger triton kl"))
    options = argparse.Namespace(device="cpu", small=True)
    table = gpu_table.Table(tmp_path / "gpu.md")
    gpu.run_heads(options, 60.0, table)
    written = (tmp_path / "gpu.md").read_text()
    assert len(re.findall(r"\| ours \| [\d.]+ \| [\d.]+ \| \d+ \| [\d.]*", written)) == 2
    assert written.count("| liger triton kl | ") == 2


def test_the_tests_of_the_gpu_table_are_those_with_the_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(gpu, "run", lambda command, limit: (asked.extend(command), ("", "no"))[1])
    table = gpu_table.Table(tmp_path / "gpu.md")
    gpu.run_tests(argparse.Namespace(output=tmp_path), 1.0, table)
    assert "tests/distributed/test_strategies.py" in asked
    assert "tests/methods/test_on_gpu.py" in asked
    assert table.lines[-1] == "| all | no | |"


def test_a_code_that_fails_on_a_card_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> float:
        raise RuntimeError("out of memory\nand more")

    monkeypatch.setattr(gpu_heads, "step", fail)
    data = work(Case("forward_kl", torch.float32, 4, 11), (3, 3))
    found = gpu_heads.measure("ours", "forward_kl", data, "cpu")
    assert found == {"error": "RuntimeError: out of memory"}


def test_wheels_are_those_of_what_kdlight_needs() -> None:
    found = wheels.closure(["kdlight"], "3.12", {"torch"})
    assert {"lightning", "transformers", "jsonargparse", "pytorch-lightning"} <= set(found)
    assert {"torch", "ruff"}.isdisjoint(found)

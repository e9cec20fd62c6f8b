"""``kdlight rank`` ranks the students of a config."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from kdlight import SingleInput
from kdlight.cli.rank import rank
from kdlight.data import DigitsDataModule
from kdlight.models.digits import ConvNet, TinyNet
from kdlight.ranking import rank_students

BASE = Path(__file__).parents[2] / "configs" / "base"
CONFIG = f"""
teacher: {BASE / "conv_net.yaml"}
students:
  tiny:
    class_path: kdlight.SingleInput
    init_args: {{ net: {{ class_path: kdlight.models.digits.TinyNet }} }}
  small:
    class_path: kdlight.SingleInput
    init_args:
      net:
        class_path: kdlight.models.digits.ConvNet
        init_args: {{ channels: 4 }}
data:
  class_path: kdlight.data.DigitsDataModule
  init_args: {{ batch_size: 16 }}
repeats: 2
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "rank.yaml"
    path.write_text(CONFIG)
    return str(path)


def expected(repeats: int) -> list[str]:
    torch.manual_seed(0)
    teacher = SingleInput(ConvNet())
    data = DigitsDataModule(batch_size=16)
    data.setup("fit")
    students = {
        "tiny": lambda: SingleInput(TinyNet()),
        "small": lambda: SingleInput(ConvNet(channels=4)),
    }
    batch = next(iter(data.train_dataloader()))
    return str(rank_students(teacher, students, batch, repeats=repeats)).splitlines()


def test_a_config_is_ranked_and_every_initialization_is_another_one(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    states = torch.get_rng_state(), random.getstate()
    rank(["--config", config, "--device", "cpu"])
    table = capsys.readouterr().out.splitlines()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert table == expected(2)
    assert all(float(line.split("|")[3]) > 0 for line in table[2:])  # the standard deviation


def test_options_override_the_config(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    rank(["--config", config, "--repeats", "1", "--seed=0", "--device=cpu"])
    assert capsys.readouterr().out.splitlines() == expected(1)


def test_recipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rank.yaml"
    path.write_text(
        "teacher: {class_path: tests.cli.test_rank.Tiny}\n"
        "students:\n"
        "  half: {class_path: kdlight.PrunedCausalLM, init_args: {layers: [0]}}\n"
        "data: {class_path: tests.cli.test_rank.Tokens}\n"
        "repeats: 1\n"
    )
    rank(["--config", str(path), "--device=cpu"])
    assert "| half | -" in capsys.readouterr().out


class Tiny(torch.nn.Module):
    """A small language model."""

    def __new__(cls) -> torch.nn.Module:  # type: ignore[misc]
        from tests.families.families import FAMILIES

        return FAMILIES["llama"].make(0)  # type: ignore[return-value]


class Tokens(DigitsDataModule):
    """A batch of tokens."""

    def setup(self, stage: str | None = None) -> None:
        """Load nothing."""

    def train_dataloader(self) -> list:  # type: ignore[override]
        from tests.families.families import FAMILIES

        return [FAMILIES["llama"].batch(0)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--repeats", "0"], "repeats must be at least 1, got 0"),
        (["--student_paths", "{other: net.2}"], "student_paths has ['other']"),
        (["--teacher_path", "net.77"], "the teacher: no module of SingleInput is called 'net.77'"),
        (["--device", "abacus"], "device must be such as"),
        (["--students", "{}"], "students must have at least one network"),
        (["--teacher.init_args.net.init_args.classes", "7"], "label 9 is outside of the 7 classes"),
        (["--students", "{a: {class_path: kdlight.models.digits.NoNet}}"], "NoNet"),
    ],
)
def test_an_error_is_one_line(
    config: str, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        rank(["--config", config, "--device=cpu", *options])
    printed = capsys.readouterr().err
    assert stop.value.code == 2
    assert printed.startswith("error: ")
    assert message in printed
    assert "Traceback" not in printed


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        rank(["--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    for option in ("--teacher", "--students", "--data", "--repeats", "--traceback"):
        assert option in printed

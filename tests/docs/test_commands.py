"""Every command in a text, a page, a config or a docstring is valid.

A command is parsed by the parser that would run it: a renamed option, a missing config and an
unknown target of make fail here. Placeholders are written in capitals.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from kdlight.cli import COMMANDS, main
from tests.support import tiny_lm
from tests.support.shown_commands import CONFIG, ROOT, arguments, shown

# Required options that a mention of a command may leave out.
REQUIRED = {
    "fit": {"--config": CONFIG},
    "validate": {"--config": CONFIG},
    "predict": {"--config": CONFIG},
    "doctor": {"--config": CONFIG},
    "rank": {"--config": "configs/rank/digits.yaml"},
    "serve": {"--config": CONFIG},
    "cache": {"--config": CONFIG, "--output": "FOLDER"},
    "export": {"--ckpt_path": "FILE", "--output": "FOLDER"},
    "traces generate": {"--source": "TEACHER", "--prompts": "FILE", "--output": "FILE"},
    "traces verify": {"--files": "[FILE]", "--output": "FOLDER"},
    "traces score": {"--files": "FILE", "--output": "FILE"},
    "traces select": {"--files": "FILE", "--output": "FILE", "--select": "length_control"},
}


class Parsed(Exception):
    """The arguments were parsed; the next call would run the command."""


def completed(words: list[str]) -> list[str]:
    """Add the required options to a command of kdlight; a group of commands has its help."""
    if words == ["traces"]:
        return [*words, "--help"]
    name = " ".join(words[: 2 if words[0] == "traces" else 1])
    missing = [
        (option, value) for option, value in REQUIRED.get(name, {}).items() if option not in words
    ]
    return [*words, *(word for pair in missing for word in pair)]


def is_valid(words: list[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether the parser of a kdlight command accepts these words."""

    def stop(*_: object, **__: object) -> None:
        raise Parsed

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.setattr(ArgumentParser, "instantiate_classes", stop)
    reads_configs = words[0] in ("fit", "validate", "test", "predict", "doctor", "cache", "serve")
    try:
        main([*words, "--print_config"] if reads_configs else words)
    except Parsed:
        return True
    except SystemExit as end:
        return not end.code
    return words[0] in COMMANDS  # it has printed its result


# A command with an ellipsis, or with a bar between alternatives, is a pattern.
ALL = sorted({command for command in shown() if not re.search(r"^$|\.\.\.|\w\|\w", command)})
COMMAND_LINES = [command for command in ALL if arguments(command)[0] == "kdlight"]
TARGETS = [command for command in ALL if arguments(command)[0] == "make"]
SCRIPTS = [command for command in ALL if re.match(r"python (-m )?(tests|kdlight)\b", command)]


def test_all_kinds_of_commands_are_found() -> None:
    assert len(COMMAND_LINES) > 20
    assert len(TARGETS) > 10
    assert SCRIPTS
    assert {arguments(each)[1] for each in COMMAND_LINES} >= {"fit", "doctor", "export", "cache"}


@pytest.mark.parametrize("command", COMMAND_LINES)
def test_a_command_is_valid(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_valid(completed(arguments(command)[1:]), monkeypatch)


@pytest.mark.parametrize(
    "command",
    [
        "kdlight fit --config configs/digits.yaml --model.temperatur 2",
        "kdlight fit --config configs/nothing.yaml",
        "kdlight fit --config configs/taid.yaml --trainer.callbacks+=Nothing",
        "kdlight doctor --config configs/digits.yaml --nothing 2",
        "kdlight cache --config configs/forward_kl.yaml --outputs cache",
        "kdlight export --checkpoint CHECKPOINT --output FOLDER",
        "kdlight traces generate --source A --prompts B --output C --sampling.number 4",
        "kdlight nothing",
    ],
)
def test_an_invalid_command_is_detected(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_valid(arguments(command)[1:], monkeypatch)


@pytest.mark.parametrize("command", TARGETS)
def test_make_knows_the_target(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for word in arguments(command)[1:]:
        name, is_variable, _ = word.partition("=")
        known = rf"^{name} \?=" if is_variable else rf"^{name}:"
        assert re.search(known, makefile, flags=re.MULTILINE), word


@pytest.mark.parametrize("command", SCRIPTS)
def test_what_python_runs_is_there(command: str) -> None:
    words = arguments(command)
    module = ROOT / words[2].replace(".", "/") if words[1] == "-m" else ROOT / words[1]
    assert (
        module.is_file() or (module / "__main__.py").exists() or module.with_suffix(".py").exists()
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:AdaptiveTAID has no effect")  # the config's, without its TAID
@pytest.mark.parametrize("option", ["JensenShannon", "+=ExactResume"])
def test_a_command_of_the_readme_runs(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a tiny language model, with its own options as they stand there."""
    command = min((line for line in COMMAND_LINES if option in line), key=len)
    words = [str(ROOT / w) if w.startswith("configs/") else w for w in arguments(command)[1:]]
    source, text = tiny_lm.save(tmp_path / "teacher"), tmp_path / "text.jsonl"
    text.write_text("\n".join(f'{{"text": "{i} says {"so " * 40}"}}' for i in range(20)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["kdlight"])
    small = {
        "model.teacher.source": source,
        "model.student.layers": 1,
        "data.files": text,
        "data.block_size": 32,
        "data.batch_size": 2,
        "trainer.max_steps": 2,
        "trainer.limit_val_batches": 1,
        "trainer.val_check_interval": 2,
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
    }
    main([*words, *(f"--{name}={value}" for name, value in small.items())])

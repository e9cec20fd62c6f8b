"""The command line: overrides, interpolation, saved configs, and one clear error for bad input."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from kdlight.cli import main
from kdlight.cli.errors import explain

CONFIGS = Path(__file__).parents[2] / "configs"
DIGITS = str(CONFIGS / "digits.yaml")
QUICK = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.logger=false",
    "--trainer.accelerator=cpu",
    '--trainer.callbacks=[{"class_path":"TrainTeacherFirst","init_args":{"epochs":1}}]',
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["kdlight"])  # pytest's arguments are not ours
    monkeypatch.chdir(tmp_path)


def printed_config(capsys: pytest.CaptureFixture[str], *args: str) -> dict:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", DIGITS, *args, "--print_config"])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["temperature", "objective.temperature"])
def test_one_temperature_reaches_objective_and_metrics(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written once in a config, interpolated from the root, and moved by one override."""
    config = yaml.safe_load(Path(DIGITS).read_text())
    model = config["model"]["init_args"]
    if name == "temperature":
        model["temperature"] = 4.0
        model["objective"]["init_args"]["temperature"] = "${model.init_args.temperature}"
    else:
        model["temperature"] = "${model.init_args.objective.init_args.temperature}"
    path = tmp_path / "once.yaml"
    path.write_text(yaml.safe_dump(config))
    for args, expected in (((), 4.0), ((f"--model.{name}", "2.5"), 2.5)):
        parsed = printed_config(capsys, "--config", str(path), *args)["model"]["init_args"]
        assert parsed["temperature"] == expected
        assert parsed["objective"]["init_args"]["temperature"] == expected


def test_the_objective_is_exchanged_on_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = printed_config(
        capsys, "--model.objective", "JensenShannon", "--model.objective.beta", "0.3"
    )
    objective = config["model"]["init_args"]["objective"]
    assert objective["class_path"] == "kdlight.objectives.JensenShannon"
    assert objective["init_args"]["beta"] == 0.3
    assert objective["init_args"]["temperature"] == 4.0  # still the config's


def test_saved_config_reproduces_the_run(tmp_path: Path) -> None:
    def weights(config: str, folder: Path, *args: str) -> dict[str, torch.Tensor]:
        main(["fit", "--config", config, *args, f"--trainer.default_root_dir={folder}"])
        (checkpoint,) = folder.rglob("*.ckpt")
        return torch.load(checkpoint, weights_only=True)["state_dict"]

    first = weights(DIGITS, tmp_path / "a", *QUICK, "--model.temperature=2")
    (saved,) = (tmp_path / "a").rglob("config.yaml")
    again = weights(str(saved), tmp_path / "b")
    assert first.keys() == again.keys()
    for name in first:
        torch.testing.assert_close(first[name], again[name], rtol=0, atol=0)


BAD = {
    "unknown objective": (
        ["--model.objective", "Nope"],
        r"unknown objective 'Nope'; known: AdaptiveKL.*ForwardKL.*TAID",
    ),
    "option of an objective": (
        ["--model.objective.beta", "2"],
        r"ForwardKL has no option 'beta'; it takes: temperature",
    ),
    "option of the module": (
        ["--model.objectiv", "TAID"],
        r"DistillationModule has no option 'objectiv'; it takes: student",
    ),
    "option of the trainer": (["--trainer.max_stepz", "2"], "unrecognized.*max_stepz"),
    "not a number": (["--trainer.max_epochs", "many"], r"max_epochs.*int.*many"),
    "out of range": (["--model.temperature", "-1"], "temperature must be .*got -1"),
    "t_start": (
        ['--trainer.callbacks=[{"class_path":"AdaptiveTAID","init_args":{"t_start":1.5}}]'],
        r"t_start must be in \[0, 1\), got 1.5",
    ),
    "missing config": (["--config", "nope.yaml"], "File does not exist.*nope.yaml"),
}


@pytest.mark.parametrize(("args", "expected"), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_error(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", DIGITS, *args])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    lines = errors[errors.index("error:") :].strip().splitlines()
    assert len(lines) <= 4
    assert re.search(expected, " ".join(lines))


def test_a_message_that_is_not_understood_is_kept() -> None:
    assert explain("something else") == "something else"

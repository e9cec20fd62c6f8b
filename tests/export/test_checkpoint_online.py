"""Any of several networks that were trained together is exported from their checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from kdlight.cli import main


def objective(name: str) -> dict:
    terms = {"cross_entropy": "CrossEntropy", "kd": name}
    classes = {key: {"class_path": f"kdlight.objectives.{kind}"} for key, kind in terms.items()}
    return {"class_path": "kdlight.objectives.Weighted", "init_args": {"terms": classes}}


@pytest.fixture(scope="module")
def run(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a teacher and a student that is pruned from it for two steps, from a config."""
    folder = tmp_path_factory.mktemp("run")
    cut = {"class_path": "kdlight.PrunedCausalLM", "init_args": {"layers": [0, 2]}}
    whole = {"class_path": "kdlight.CausalLM", "init_args": {"source": str(tiny)}}
    learners = {
        "student": {"network": cut, "objective": objective("BDKD")},
        "teacher": {"network": whole, "objective": objective("ForwardKL"), "clip": 1.0},
    }
    export = {"directory": str(folder / "teacher"), "network": "teacher"}
    config = {
        "seed_everything": 0,
        "model": {
            "class_path": "kdlight.OnlineDistillationModule",
            "init_args": {"learners": learners},
        },
        "data": {
            "class_path": "kdlight.data.TextDataModule",
            "init_args": {
                "tokenizer": str(tiny),
                "files": str(tiny / "text.jsonl"),
                "block_size": 32,
                "batch_size": 2,
            },
        },
        "trainer": {
            "max_steps": 2,
            "limit_val_batches": 1,
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
            "default_root_dir": str(folder),
            "callbacks": [{"class_path": "kdlight.callbacks.ExportStudent", "init_args": export}],
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["kdlight"])
        main(["fit", "--config", str(folder / "config.yaml")])
    return folder


@pytest.mark.parametrize(("network", "layers"), [("student", 2), ("teacher", 3)])
def test_any_network_is_exported_from_the_checkpoint(
    network: str, layers: int, run: Path, tmp_path: Path
) -> None:
    (path,) = run.rglob("*.ckpt")
    chosen = [] if network == "student" else ["--network", network]
    main(["export", "--ckpt_path", str(path), "--output", str(tmp_path / "out"), *chosen])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == layers
    weights = load_file(tmp_path / "out" / "model.safetensors")
    trained = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(weights[n], trained[f"{network}.model.{n}"]) for n in weights)
    assert (tmp_path / "out" / "tokenizer.json").exists()
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("| objective | `Weighted(" in card) == (network == "student")
    if network == "teacher":
        assert load_file(run / "teacher" / "model.safetensors").keys() == weights.keys()
        assert "| student | `CausalLM(source=" in card


def test_a_network_that_is_not_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = run.rglob("*.ckpt")
    with pytest.raises(SystemExit):
        main(["export", "--ckpt_path", str(path), "--output", str(tmp_path), "--network", "third"])
    error = capsys.readouterr().err
    assert "network must be one of ['student', 'teacher'], got 'third'" in error

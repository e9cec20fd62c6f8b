"""A text in a config stays the text that it is, also where it looks like a number or a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdlight.cli import main

CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "kdlight.DistillationModule",
        "init_args": {
            "student": {
                "class_path": "kdlight.CausalLM",
                "init_args": {"source": "nowhere", "model_kwargs": {"revision": "5"}},
            },
            "objective": {"class_path": "kdlight.objectives.CrossEntropy"},
        },
    },
    "data": {
        "class_path": "kdlight.data.TracesDataModule",
        "init_args": {
            # which makes the parser read the whole config twice
            "tokenizer": "${model.init_args.student.init_args.source}",
            "files": "traces.jsonl",
            "select": [{"length_control": {"long": "[long]", "short": "7"}}],
        },
    },
}


def test_texts_of_nested_parameters_are_not_read_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(CONFIG))
    monkeypatch.setattr("sys.argv", ["kdlight"])
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(path), "--print_config"])
    assert stop.value.code == 0
    whole = yaml.safe_load(capsys.readouterr().out)
    assert whole["data"]["init_args"]["tokenizer"] == "nowhere"
    assert whole["data"]["init_args"]["select"] == CONFIG["data"]["init_args"]["select"]
    student = whole["model"]["init_args"]["student"]["init_args"]
    assert student["model_kwargs"] == {"revision": "5"}

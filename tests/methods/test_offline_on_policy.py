"""Text of the student, scored once by the teacher, and trained on: three commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdlight.cache import read_manifest
from kdlight.cli import main
from tests.support import tiny_lm

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a student and a teacher, which is the current one."""
    for name, seed in (("student", 0), ("teacher", 1)):
        tiny_lm.model(seed=seed).save_pretrained(tmp_path / name)
        tiny_lm.tokenizer().save_pretrained(tmp_path / name)
    lines = [json.dumps({"prompt": f"{i} + 1 =", "prompt_id": str(i)}) for i in range(6)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["kdlight"])  # Lightning warns of two commands
    return tmp_path


def generate(source: str, output: str) -> None:
    options = {
        "source": source,
        "prompts": "prompts.jsonl",
        "output": output,
        "samples": 2,
        "sampling.max_new_tokens": 12,
    }
    main(["traces", "generate", *(f"--{name}={value}" for name, value in options.items())])


def config(teacher: dict[str, Any], files: str) -> str:
    values = {
        "seed_everything": 0,
        "model": {
            "class_path": "kdlight.DistillationModule",
            "init_args": {
                "teacher": teacher,
                "student": {"class_path": "kdlight.CausalLM", "init_args": {"source": "student"}},
                "objective": {"class_path": "kdlight.objectives.ReverseKL"},
            },
        },
        "data": {
            "class_path": "kdlight.data.TracesDataModule",
            "init_args": {"tokenizer": "student", "files": files, "per_prompt": None},
        },
        "trainer": {"max_epochs": 2, "accelerator": "cpu", "logger": False},
    }
    path = Path(f"{teacher['class_path']}-{files}.yaml")
    path.write_text(yaml.safe_dump(values))
    return str(path)


LIVE = {"class_path": "kdlight.CausalLM", "init_args": {"source": "teacher"}}


def cached(**declared: str) -> dict[str, Any]:
    return {"class_path": "kdlight.CachedTeacher", "init_args": {"path": "cache", **declared}}


def test_a_student_learns_from_its_own_text_that_is_scored_once(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate("student", "traces.jsonl")
    main(["cache", "--config", config(LIVE, "traces.jsonl"), "--output", "cache", "--k", "20"])
    manifest = read_manifest(models / "cache")
    assert manifest.data["written_by"] == ["student"]
    assert manifest.teacher["name"] == "CausalLM(source='teacher')"
    declared = {"teacher": "teacher", "written_by": "student"}
    main(["fit", "--config", config(cached(**declared), "traces.jsonl")])
    for wrong, message in (
        ({**declared, "teacher": "student"}, "declares teacher='student'"),
        ({**declared, "written_by": "teacher"}, "declares written_by='teacher'"),
    ):
        with pytest.raises(SystemExit):
            main(["fit", "--config", config(cached(**wrong), "traces.jsonl")])
        assert message in capsys.readouterr().err
    generate("teacher", "other.jsonl")
    with pytest.raises(SystemExit):  # text that the cache does not have
        main(["fit", "--config", config(cached(**declared), "other.jsonl")])
    assert "are not in the cache 'cache'" in capsys.readouterr().err

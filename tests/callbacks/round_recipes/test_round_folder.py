"""A folder is continued by the same round only."""

from __future__ import annotations

from pathlib import Path

from kdlight.callbacks.round_recipes.round_folder import open_folder
from kdlight.data.traces import Trace


def test_settings_are_not_readable(tmp_path: Path) -> None:
    open_folder(tmp_path / "round_1", [], {"client": {"key": "secret"}})
    assert "secret" not in (tmp_path / "round_1" / "settings.json").read_text()


def test_what_was_made_is_kept_for_the_same_round_only(tmp_path: Path) -> None:
    folder, prompts = tmp_path / "rounds" / "round_1", [Trace("a", "")]
    settings = {"weights": "1", "samples": 4}
    assert not open_folder(folder, prompts, settings)
    made = folder / "student.jsonl"
    made.write_text("made")
    assert open_folder(folder, prompts, settings)
    assert made.exists()
    for other_prompts, other in (
        ([Trace("b", "")], settings),
        (prompts, {**settings, "weights": "2"}),
    ):
        assert not open_folder(folder, other_prompts, other)
        assert not made.exists()
        assert not open_folder(folder, prompts, settings)
        made.write_text("made")

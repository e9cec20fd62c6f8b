"""Public names that are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kdlight
from kdlight import data

ROOT = Path(__file__).parents[1]


def python(code: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return run.stdout.split()


def test_names_are_those_of_the_type_checkers_block() -> None:
    assert {"DistillationModule", "losses", "Projected"} <= set(vars(kdlight)["__all__"])
    assert "TYPE_CHECKING" not in vars(kdlight)["__all__"]
    assert set(vars(kdlight)["__all__"]) <= set(dir(kdlight))
    assert "batch_labels" in vars(data)["__all__"]


def test_a_name_is_the_object_of_its_home() -> None:
    from kdlight.modules import DistillationModule

    assert kdlight.DistillationModule is DistillationModule
    assert kdlight.losses.__name__ == "kdlight.losses"  # a room


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'kdlight.data' has no attribute 'Missing'"):
        data.Missing  # type: ignore[attr-defined]  # noqa: B018


def test_a_home_is_imported_when_its_name_is_used() -> None:
    loaded = python(
        "import sys, kdlight\n"
        "before = 'kdlight.sources' in sys.modules\n"
        "kdlight.Dense\n"
        "print(before, 'kdlight.sources' in sys.modules, 'kdlight.modules' in sys.modules)"
    )
    assert loaded == ["False", "True", "False"]


def test_a_name_is_resolved_once() -> None:
    assert python("import kdlight; kdlight.Dense; print('Dense' in vars(kdlight))") == ["True"]

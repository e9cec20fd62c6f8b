"""Following CONTRIBUTING.md to the letter adds a method, on which the laws run and hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kdlight.testing import LAWS
from tests.support.written_steps import ROOT, apply, follow, steps

TEXTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")
FOLDERS = ("kdlight", "callbacks", "configs", "tests")
SECTION = "How to add a method"
SLOW_REFERENCE = "value_and_gradient_are_those_of_the_slow_reference"
# Besides the laws, fast tests that find a new method by themselves.
OTHERS = (
    "tests/test_layout.py",
    "tests/cli/test_descriptions.py",
    "tests/cli/test_objectives.py",
    "tests/configs/test_configs.py",
    "tests/docs/test_methods_table.py",
    "tests/losses/test_losses.py",
    "tests/losses/test_loss_edges.py",
    "tests/objectives/test_objectives.py",
    "tests/objectives/test_token_objective.py",
    "tests/reduce/test_functions.py",
    "tests/reduce/test_gradients.py",
    "tests/reduce/test_sums.py",
)
NEW = ("kdlight/losses/hellinger.py", "kdlight/objectives/hellinger.py")

pytestmark = pytest.mark.slow


def run_tests(checkout: Path, commands: list[str], *files: str) -> dict[str, str]:
    """Run the tests in ``files`` that the steps select, in a process; return their outcomes."""
    (chosen,) = re.findall(r'ARGS="-k (\w+)"', "\n".join(commands))
    which = f"{chosen} or test_methods_table"  # whose tests are about all methods
    call = [sys.executable, "-m", "pytest", "-q", "-k", which, "-m", "not slow", *files]
    done = subprocess.run(
        [*call, "--junitxml", "result.xml", "-p", "no:cacheprovider"],
        cwd=checkout,
        env={"PATH": os.defpath, "OMP_NUM_THREADS": "1"},  # without PYTHONPATH
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {
        f"{case.get('classname')}::{case.get('name')}": "passed" if len(case) == 0 else case[0].tag
        for case in ElementTree.parse(checkout / "result.xml").iter("testcase")
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, without its history and large folders."""
    copy = tmp_path_factory.mktemp("checkout")
    left_out = shutil.ignore_patterns("__pycache__", "conformance", "studies", "benchmarks")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=left_out)
    for name in TEXTS:
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def commands(checkout: Path) -> list[str]:
    return follow(SECTION, checkout)


def test_the_laws_run_on_the_new_method_and_hold(checkout: Path, commands: list[str]) -> None:
    ended = run_tests(checkout, commands, "tests/objectives/test_laws.py", *OTHERS, *NEW)
    assert {
        f"tests.objectives.test_laws::test_law[{law}-{setting}]"
        for law in (*LAWS, SLOW_REFERENCE)
        for setting in ("hellinger", "hellinger(temperature=2.5)")
    } <= set(ended)
    assert {
        "tests.configs.test_configs::test_a_config_parses[hellinger]",
        "tests.test_layout::test_imports_point_one_way[kdlight.losses.hellinger]",
        "tests.docs.test_methods_table::test_papers_losses_and_needs_are_those_of_the_code",
        "kdlight.losses.hellinger::kdlight.losses.hellinger.hellinger",  # its example
    } <= set(ended)
    assert {name: how for name, how in ended.items() if how != "passed"} == {}


def test_it_has_the_style_of_the_project(checkout: Path, commands: list[str]) -> None:
    assert "make format" in commands
    written = [file for file, _, _ in steps(SECTION) if file.endswith(".py")]
    assert len(written) == 5
    for command in (["format"], ["check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *written],
            cwd=checkout,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_a_wrong_formula_breaks_a_law(checkout: Path, commands: list[str]) -> None:
    path = checkout / "kdlight" / "losses" / "hellinger.py"
    right = path.read_text("utf-8")
    wrong = right.replace(".square().sum(-1) / 2", ".square().sum(-1)")
    assert wrong != right
    path.write_text(wrong, "utf-8")
    ended = run_tests(checkout, commands, "tests/objectives/test_laws.py")
    path.write_text(right, "utf-8")
    broken = {name for name, how in ended.items() if how != "passed"}
    assert f"tests.objectives.test_laws::test_law[{SLOW_REFERENCE}-hellinger]" in broken
    assert "tests.objectives.test_laws::test_law[zero_at_a_match-hellinger]" not in broken


def test_a_step_that_no_longer_fits_is_detected() -> None:
    with pytest.raises(AssertionError, match="no longer in the file"):
        apply(" there\n+new\n not there\n+new", "there\n")

"""The wheel built from the source archive holds everything, and runs outside the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("pyproject.toml", "README.md", "LICENSE")
FOLDERS = {"kdlight": "kdlight", "callbacks": "kdlight/callbacks", "configs": "kdlight/configs"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel from a source archive from a copy without what an earlier install left behind."""
    copy = tmp_path_factory.mktemp("copy")
    for name in SHIPPED:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=copy)
    (built,) = copy.glob("dist/*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_source_and_every_config(wheel: Path) -> None:
    there = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{home}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, home in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".typed", ".yaml"}
        and not (folder == "kdlight" and path.relative_to(ROOT / folder).parts[0] in FOLDERS)
    }
    assert there == expected


@pytest.mark.slow
def test_the_wheel_runs_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", "bare", cwd=tmp_path)
    python = tmp_path / "bare" / "bin" / "python"
    install = ("install", "--quiet", "--no-deps", "--no-index")
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel, cwd=tmp_path)
    (site,) = (tmp_path / "bare").glob("lib/python*/site-packages")
    # This environment lends the dependencies. A path in a .pth file brings the packages there, but
    # not the .pth files beside them: an editable kdlight stays out of sight.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))
    homes = run(
        python,
        "-I",
        "-c",
        "import kdlight, kdlight.callbacks, kdlight.configs, kdlight.losses as losses\n"
        "for m in (kdlight, kdlight.callbacks, kdlight.configs, losses): print(m.__file__)",
        cwd=tmp_path,
    )
    assert [Path(home).is_relative_to(site) for home in homes.split()] == [True] * 4
    assert "fit" in run(python.with_name("kdlight"), "--help", cwd=tmp_path)

"""Collect the wheels that `gpu.py` installs on a machine without a network.

``python -m tests.benchmarks.wheels [--python 3.12] [--without NAME ...] [--peers]``

What kdlight and its tests need, in the versions of this environment, is downloaded for another
Python, except torch and what torch itself brings along. The sizes are printed: leave out what the
other machine has (``--without numpy scipy transformers``), or what is too large to carry.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
NEEDED = ("kdlight", "pytest", "hypothesis", "psutil")
PEERS = ("trl", "liger-kernel")
NOT_CARRIED = ("kdlight", "torch", "triton", "pot")
"""The checkout itself, what belongs to the other machine's GPU, and a peer of 31 MiB that tests of
optimal transport compare with."""

PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (39, 34, 31, 28, 27, 24, 17, 12, 5)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def closure(names: list[str], python: str, without: set[str]) -> dict[str, str]:
    """The packages that these need, with the versions that are installed here.

    >>> sorted(closure(["pluggy"], "3.12", set()))
    ['pluggy']
    """
    found: dict[str, str] = {}
    waiting = [canonicalize_name(name) for name in names]
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    while waiting:
        name = waiting.pop()
        if name in found or name in without:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:  # for another platform
            continue
        found[name] = package.version
        for text in package.requires or ():
            needed = Requirement(text)
            extras = {"jsonargparse": ("", "signatures")}.get(name, ("",))
            if needed.marker is None or any(
                needed.marker.evaluate({**environment, "extra": extra}) for extra in extras
            ):
                waiting.append(canonicalize_name(needed.name))
    return found


def _is_installed(name: str) -> bool:
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False


def download(name: str, version: str, python: str, folder: Path) -> Path | None:
    """Download one wheel; None where there is none for that Python."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", python]
    command += ["--implementation", "cp", "--dest", str(folder)]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    before = set(folder.iterdir())
    command.append(f"{name}=={version}")
    done = subprocess.run(command, capture_output=True, text=True)
    new = set(folder.iterdir()) - before
    if done.returncode or not new:
        print(f"{name}=={version}: {done.stderr.strip().splitlines()[-1:] or 'is there already'}")
    return new.pop() if new else None


def main(arguments: list[str] | None = None) -> None:
    """Download, and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="3.12", help="version of the other machine's Python")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "wheels")
    parser.add_argument("--without", nargs="*", default=[], help="packages the other machine has")
    parser.add_argument("--peers", action="store_true", help="TRL and Liger, too")
    parser.add_argument("--list", action="store_true", help="download nothing")
    options = parser.parse_args(arguments)
    with_torch = set(closure(["torch"], options.python, set()))
    left_out = {canonicalize_name(name) for name in (*options.without, *NOT_CARRIED)} | with_torch
    names = [*NEEDED, *(PEERS if options.peers else ())]
    absent = [name for name in names if name != "kdlight" and not _is_installed(name)]
    if options.peers and set(absent) & set(PEERS):
        parser.error(f"{absent} are not installed here: run `make peers` first")
    found = closure(names, options.python, left_out - {"kdlight"})
    found.pop("kdlight", None)
    options.output.mkdir(parents=True, exist_ok=True)
    for wheel in () if options.list else options.output.glob("*.whl"):
        wheel.unlink()  # of an earlier call, which all would be installed
    for name, version in sorted(found.items()):
        if options.list:
            print(f"{name}=={version}")
            continue
        download(name, version, options.python, options.output)
    wheels = sorted(options.output.glob("*.whl"), key=lambda wheel: -wheel.stat().st_size)
    for wheel in wheels[:10]:
        print(f"{wheel.stat().st_size / 2**20:6.1f} MiB {wheel.name}")
    total = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f"{total:6.1f} MiB in {len(wheels)} wheels in {options.output}")


if __name__ == "__main__":
    main()

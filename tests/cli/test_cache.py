"""``kdlight cache``: interrupted and continued, on two ranks, and errors in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdlight.cache import CacheReader, read_manifest
from kdlight.cli import main
from kdlight.cli.config_files import read_config
from tests.support.config_runs import FOLDER, tiny

ROOT = Path(__file__).parents[2]
CONFIG = FOLDER / "forward_kl.yaml"

__all__ = ["tiny"]  # the fixture
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's, of its libraries


def command(tiny: dict[str, str], output: Path, *more: str) -> list[str]:
    options = {
        "--config": str(CONFIG),
        "--output": str(output),
        "--k": "10",
        "--model.init_args.teacher.init_args.source": tiny["source"],
        "--data.init_args.files": tiny["text"],
        "--data.init_args.block_size": "16",
        "--trainer.accelerator": "cpu",
    }
    return ["cache", *(part for pair in options.items() for part in pair), *more]


def start(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kdlight.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@quiet
def test_an_interrupted_cache_is_continued(
    tiny: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = tmp_path / "cache"
    small = command(tiny, output, "--shard_positions", "60", "--data.init_args.batch_size", "2")
    process = start(small, tmp_path)
    while process.poll() is None and len(list(output.glob("shard-*.safetensors"))) < 3:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    first = {path.name for path in output.glob("shard-*.safetensors")}
    assert len(first) >= 3
    assert not read_manifest(output).complete

    main(small)
    said = caplog.text
    assert "positions with 10 tokens each" in said
    assert "bytes per position" in said
    assert "Cache complete" in said
    assert not list(output.glob("*.unfinished"))
    manifest = read_manifest(output)
    assert first <= set(manifest.shards)  # at most what no shard held yet was done twice
    assert manifest.data["positions"] > len(first) * 60

    with pytest.raises(SystemExit):
        main(small)
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "not overwritten" in said


@pytest.mark.slow
@quiet
def test_two_ranks_write_what_one_writes(tiny: dict[str, str], tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    main(command(tiny, folders[0]))
    ranks = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    process = start(command(tiny, folders[1], *ranks), tmp_path)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    one, two = map(CacheReader, folders)
    assert len(two.shards) == 2
    keys = [bytes(key) for shard in one.shards for key in shard.keys]
    for here, there in zip(one.find(keys), two.find(keys), strict=True):
        for mine, others in zip(one.read(here), two.read(there), strict=True):
            assert mine == pytest.approx(others, abs=1e-3)


@quiet
def test_a_config_of_the_cached_teacher_trains(
    tiny: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["kdlight"])  # Lightning warns of arguments given twice
    output = tmp_path / "cache"
    main(command(tiny, output))
    config = read_config(FOLDER / "cached.yaml")
    config["model"]["init_args"]["teacher"]["init_args"]["path"] = str(output)
    config["model"]["init_args"]["student"]["init_args"]["source"] = tiny["source"]
    config["data"]["init_args"] |= {
        "tokenizer": tiny["source"],
        "files": tiny["text"],
        "block_size": 16,
    }
    config["trainer"] |= {
        "max_steps": 2,
        "default_root_dir": str(tmp_path),
        "enable_progress_bar": False,
        "logger": False,
        "callbacks": None,
    }
    path = tmp_path / "fit.yaml"
    path.write_text(json.dumps(config))
    main(["fit", "--config", str(path)])

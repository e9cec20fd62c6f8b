"""The config of a served teacher, with a server of a tiny one: a fit, a cache, and a report."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdlight import CausalLM
from kdlight.cli import main
from kdlight.models import load_tokenizer
from kdlight.serve import ServedTeacher, TeacherServer
from tests.support.config_runs import FOLDER, arguments, tiny

__all__ = ["tiny"]  # the fixture

quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's, of its libraries


@pytest.fixture(scope="module")
def url(tiny: dict[str, str]) -> Iterator[str]:
    network = CausalLM(tiny["source"])
    served = ServedTeacher(network, tokenizer=load_tokenizer(tiny["source"]))
    with TeacherServer(served) as server:
        yield server.url


@pytest.fixture(autouse=True)
def _like_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kdlight"])


def losses(folder: Path) -> list[float]:
    (log,) = folder.rglob("metrics.csv")
    rows = csv.DictReader(log.read_text().splitlines())
    return [float(row["train/loss"]) for row in rows if row.get("train/loss")]


TEACHER = "--model.init_args.teacher.init_args"


def command(name: str, tiny: dict[str, str], *more: str) -> list[str]:
    """The options of two steps, with the source of the student: the teacher has none."""
    _, *options = arguments(FOLDER / f"{name}.yaml", tiny)
    source = f"{TEACHER}.source"
    student = source.replace("teacher", "student")
    return [student if option == source else option for option in options] + [*more]


@pytest.mark.slow
@quiet
def test_a_fit_is_that_of_a_cache_of_the_server(
    url: str, tiny: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("served", "cached"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "served")
    served = command("served", tiny, f"{TEACHER}.url", url)
    main(["fit", *served])
    columns = next(tmp_path.rglob("metrics.csv")).read_text().splitlines()[0].split(",")
    assert "train/teacher/wait" in columns
    main(["cache", *served, "--output", "../cache", "--bits", "32"])
    monkeypatch.chdir(tmp_path / "cached")
    main(["fit", *command("cached", tiny, f"{TEACHER}.path", "../cache")])
    assert losses(tmp_path / "served") == pytest.approx(losses(tmp_path / "cached"), abs=1e-5)


@quiet
def test_the_doctor_asks_the_server(
    url: str, tiny: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", *command("served", tiny, f"{TEACHER}.url", url)])
    told = capsys.readouterr().out
    assert "by kdlight" in told
    assert "k = 50" in told
    assert "positions/s" in told


@quiet
@pytest.mark.parametrize("verb", ["fit", "cache", "doctor"])
def test_no_server_is_an_error_of_one_line(
    verb: str, tiny: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    gone = command(
        "served", tiny, f"{TEACHER}.url", "http://127.0.0.1:9", f"{TEACHER}.retries", "0"
    )
    more = ["--output", "cache"] if verb == "cache" else []
    with pytest.raises(SystemExit) as done:
        main([verb, *gone, *more])
    told = capsys.readouterr()
    assert "http://127.0.0.1:9 did not answer" in told.err + told.out
    assert "Traceback" not in told.err + told.out
    assert done.value.code in (1, 2)


@quiet
def test_more_tokens_than_the_server_returns_are_not_cached(
    url: str, tiny: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    few = command("served", tiny, f"{TEACHER}.url", url, f"{TEACHER}.k", "5")
    with pytest.raises(SystemExit):
        main(["cache", *few, "--output", "cache", "--k", "10"])
    assert "returns 5; set its k to the same number" in capsys.readouterr().err

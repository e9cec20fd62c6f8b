"""The README's table of methods is complete, and agrees with the code and the configs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kdlight
from kdlight import callbacks, data, losses, models, objectives, teachers
from kdlight.cli.descriptions import find_configs, find_methods, find_objectives
from kdlight.objectives import OBJECTIVES

README = Path(__file__).parents[2] / "README.md"
COLUMNS = ("method", "paper", "loss function", "objective", "config", "needs")
FOUND = {each.class_name: each for each in find_objectives().values()}
METHODS = {each.class_path.rsplit(".", 1)[1]: each for each in find_methods()}
CONFIGS = find_configs()


def read_table(text: str) -> list[dict[str, str]]:
    """Return the rows of the table with these columns."""
    lines = iter(text.splitlines())
    header = "| " + " | ".join(COLUMNS) + " |"
    assert header in lines, f"README.md has no table with the columns {header}"
    rows = []
    for line in list(lines)[1:]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        rows.append(dict(zip(COLUMNS, cells, strict=True)))
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return read_table(README.read_text(encoding="utf-8"))


def test_all_objectives_methods_and_configs_have_a_row(rows: list[dict[str, str]]) -> None:
    listed = {name for row in rows for name in names(row["objective"])}
    assert listed >= {cls.__name__ for cls in OBJECTIVES.values()}
    assert listed >= FOUND.keys()
    mentioned = listed | {name for row in rows for name in names(row["needs"])}
    assert mentioned >= METHODS.keys() - {"Cosine"}  # a schedule, for any of them
    assert {name.removesuffix(".yaml") for row in rows for name in names(row["config"])} == set(
        CONFIGS
    )


def test_every_name_exists(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert set(names(row["loss function"])) <= set(losses.__all__), row
        for name in names(row["objective"]) + names(row["needs"]):
            homes = (objectives, callbacks, data, models, teachers, kdlight)
            assert any(name in home.__all__ for home in homes), f"{name} in {row}"
        assert row["config"], row


def test_a_config_uses_what_is_in_its_row(rows: list[dict[str, str]]) -> None:
    for row in rows:
        for config in names(row["config"]):
            used = {path.rsplit(".", 1)[1] for path in CONFIGS[config.removesuffix(".yaml")]}
            assert used & {*names(row["objective"]), *names(row["needs"])}, (config, row)
        for name in names(row["objective"]):
            if name in FOUND and name in {cls.__name__ for cls in OBJECTIVES.values()}:
                assert f"{FOUND[name].name}.yaml" in names(row["config"]), row


def test_papers_losses_and_needs_are_those_of_the_code(rows: list[dict[str, str]]) -> None:
    for row in rows:
        objectives_here = [FOUND[name] for name in names(row["objective"]) if name in FOUND]
        for each in (
            *objectives_here,
            *(METHODS[n] for n in names(row["objective"]) if n in METHODS),
        ):
            sources = [
                source
                for source in each.sources
                if re.split(r",| et al", source.authors)[0] in row["paper"]
                and str(source.year) in row["paper"]
            ]
            assert sources or not each.sources, f"{each.sources} in {row}"
        assert {each.loss for each in objectives_here} - {""} <= set(names(row["loss function"])), (
            row
        )
        needed = " ".join(need for each in objectives_here for need in each.needs)
        for need in ("teacher", "labels", "pairs", "trace", "spans") if objectives_here else ():
            assert (need in row["needs"]) == (need in needed), (need, row)
        assert {name for each in objectives_here for name in each.callbacks} <= set(
            names(row["needs"])
        ), row


@pytest.mark.parametrize("cell", ["`Nope`", "`ForwardKL`, `Nope`"])
def test_a_wrong_table_is_detected(cell: str) -> None:
    head = "| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS) + "\n"
    wrong = read_table(f"{head}| a | b | `forward_kl` | {cell} | `forward_kl.yaml` | teacher |\n")
    with pytest.raises(AssertionError, match="Nope"):
        test_every_name_exists(wrong)
    with pytest.raises(AssertionError):
        test_all_objectives_methods_and_configs_have_a_row(wrong)

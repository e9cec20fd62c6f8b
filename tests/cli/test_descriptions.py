"""Descriptions of objectives agree with the code, the configs and what the objectives need."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.cli.descriptions import BASES, find_configs, find_methods, find_objectives
from kdlight.objectives import OBJECTIVES, LossInputs, Objective
from tests.objectives.features.samples import build_with_pairs, feature_fields

FOUND = find_objectives()
METHODS = find_methods()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_names_its_paper_and_explains_its_hyper_parameters(name: str) -> None:
    each = FOUND[name]
    assert each.sources
    assert all(parameter.text for parameter in each.hyper_parameters)
    assert each.formula
    assert each.configs[0] == name


def test_all_that_is_public_is_found() -> None:
    from kdlight import objectives

    public = [getattr(objectives, name) for name in objectives.__all__]
    classes = {c for c in public if isinstance(c, type) and issubclass(c, Objective)}
    assert {each.class_name for each in FOUND.values()} == {
        cls.__name__ for cls in classes if cls.__name__ not in BASES
    }
    used = {stem for each in (*FOUND.values(), *METHODS) for stem in each.configs}
    assert used == set(find_configs())


def test_methods_that_are_no_objectives_are_found() -> None:
    papers = {each.class_path: [str(source) for source in each.sources] for each in METHODS}
    assert len(papers["kdlight.OnlineDistillationModule"]) == 2
    assert "On-Policy" in papers["kdlight.callbacks.OnPolicy"][0]
    assert not any(path.startswith("kdlight.objectives") for path in papers)


NEEDS: dict[str, dict[str, Any]] = {
    "teacher": {"teacher": None},
    "labels": {"labels": None},
    "pairs of a chosen and a rejected trace": {"rejected": None},
    "spans": {"span_ids": None},
}


@pytest.mark.parametrize("name", sorted({*FOUND} - {"Weighted", "RoutedKD"}))
def test_an_objective_refuses_inputs_without_what_it_needs(name: str) -> None:
    from kdlight import objectives

    cls = getattr(objectives, FOUND[name].class_name)
    complete: dict[str, Any] = {
        "student": torch.zeros(2, 3, 5),
        "teacher": torch.zeros(2, 3, 5),
        "labels": torch.ones(2, 3, dtype=torch.long),
        "rejected": torch.tensor([False, True]),
        "span_ids": torch.zeros(2, 3, dtype=torch.long),
        **feature_fields(torch.zeros(2, 3, 12), torch.zeros(2, 3, 12)),
    }
    objective = build_with_pairs(cls)
    assert objective(LossInputs(**complete)).count > 0
    for need, without in NEEDS.items():
        inputs = LossInputs(**complete | without)
        if need in FOUND[name].needs:
            (field,) = without
            with pytest.raises(ValueError, match=f"needs .*{field}"):
                objective(inputs)
        else:
            objective(inputs)


def test_needs_are_those_of_the_class() -> None:
    assert FOUND["redi"].needs == ("labels",)
    assert FOUND["dpo"].needs == ("teacher", "labels", "pairs of a chosen and a rejected trace")
    assert FOUND["Weighted"].needs == ("what its terms need",)


def test_a_config_uses_the_classes_of_its_bases() -> None:
    assert {"kdlight.CausalLM", "kdlight.data.TextDataModule"} <= find_configs()["taid"]
    assert "base" not in find_configs()

"""The page of what works is that of the tests."""

from __future__ import annotations

import pytest

from tests.families.families import CASES, FAMILIES
from tests.lightning_features.features import FEATURES
from tests.lightning_features.test_features import (
    test_a_feature_trains_as_plain_pytorch_does as feature_test,
)
from tests.support.what_works import LAWS, PAGE, cases, families, features, page


def test_the_page_is_up_to_date() -> None:
    message = "python -m tests.support.what_works writes the page"
    assert PAGE.read_text("utf-8") == page(), message


def test_every_family_has_a_row_and_the_five_laws() -> None:
    rows = families().splitlines()[2:]
    assert len(rows) == len(FAMILIES)
    for law in list(LAWS)[:5]:
        assert [(each["name"], each["way"]) for each in cases(LAWS[law])] == CASES
    for row, family in zip(rows, FAMILIES.values(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == family.title
        assert cells[3:8] == ["✓"] * 5
        assert cells[8] == ", ".join(family.padding)


def test_every_feature_is_tested_for_both_kinds_of_module() -> None:
    marks = [mark.args for mark in feature_test.pytestmark if mark.name == "parametrize"]
    assert ("kind", ["module", "mixin"]) in marks
    assert [row.split("|")[1].strip() for row in features().splitlines()[2:]] == list(FEATURES)


def test_a_test_that_is_not_about_families_has_no_column() -> None:
    with pytest.raises(AttributeError):
        cases(test_the_page_is_up_to_date)

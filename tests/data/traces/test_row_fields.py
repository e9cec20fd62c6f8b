"""Fields of rows, and where they go."""

from __future__ import annotations

from typing import Any

import pytest

from kdlight.data.traces.row_fields import known_fields, other_fields_of, prompt_id


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"id": 3}, "3"),
        ({"uuid": "u", "id": 3}, "u"),
        ({"prompt_id": "p", "uuid": "u"}, "p"),
        ({}, ""),
    ],
)
def test_a_prompt_id_is_taken_from_the_first_field_of_several(row: Any, expected: str) -> None:
    assert prompt_id(row) == expected


def test_each_field_goes_to_one_place() -> None:
    row = {"teacher": "t", "score": None, "level": 2, "id": 3, "at": object(), "meta": {"level": 4}}
    known = known_fields(row, ("teacher", "score"))
    assert known == {"teacher": "t"}
    assert other_fields_of(row, known) == {"level": 4}
    with pytest.raises(TypeError, match="meta must be an object"):
        other_fields_of({"meta": "m"}, ())

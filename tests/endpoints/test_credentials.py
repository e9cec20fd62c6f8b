from __future__ import annotations

import pytest

from kdlight.endpoints.credentials import check_variable, read_token


@pytest.mark.parametrize("given", ["sk-12", "a b", "", "1A"])
def test_what_is_no_variable_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(ValueError, match="name of an environment variable") as error:
        check_variable(given)
    assert not given or given not in str(error.value)


def test_a_number_is_no_variable() -> None:
    with pytest.raises(TypeError, match="token_variable must be"):
        check_variable(3)  # type: ignore[arg-type]


def test_the_value_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_TOKEN", " s3cret\n")
    assert read_token("TEACHER_TOKEN") == "s3cret"
    assert read_token(None) is None


@pytest.mark.parametrize("value", ["s3cret\nsecond", "s3cret more", "s3cret\x00", "s3crét"])
def test_what_cannot_be_sent_is_told_and_not_repeated(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\x00" in value:
        monkeypatch.setattr("os.environ", {"TEACHER_TOKEN": value})
    else:
        monkeypatch.setenv("TEACHER_TOKEN", value)
    with pytest.raises(ValueError, match="TEACHER_TOKEN has a token with blanks") as error:
        read_token("TEACHER_TOKEN")
    assert "s3cr" not in str(error.value)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_an_empty_variable_is_told(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("TEACHER_TOKEN", value)
    with pytest.raises(ValueError, match="TEACHER_TOKEN is not set"):
        read_token("TEACHER_TOKEN")

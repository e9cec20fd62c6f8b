"""A cache of another teacher, or of another model's text, than a run declares is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kdlight.cache.declared import check_declared, text_writers
from kdlight.cache.manifest import Manifest
from kdlight.data.traces import Trace


def manifest(writers: list[str | None] | None = None) -> Manifest:
    data: dict[str, Any] = {} if writers is None else {"written_by": writers}
    return Manifest({"name": "large", "weights": "ab12"}, {}, data, vocabulary=5, settings={})


def traces(*names: str | None) -> Any:
    made = [Trace("q", "a", teacher=name) for name in names]
    return SimpleNamespace(traces=(made[:1], made[1:]))


def test_who_wrote_traces_is_known() -> None:
    assert text_writers(traces("b", "a", "b", None)) == ["a", "b", None]
    assert text_writers(traces("b")) == ["b"]
    assert text_writers(object()) is None


@pytest.mark.parametrize("teacher", [None, "large", "ab12"])
@pytest.mark.parametrize("written_by", [None, "small"])
def test_what_is_declared_or_not_is_accepted(teacher: str | None, written_by: str | None) -> None:
    check_declared(manifest(["small"]), "cache", teacher=teacher, written_by=written_by)


def test_the_source_of_a_teacher_is_a_name_of_it() -> None:
    given = Manifest({"name": "CausalLM(source='a/large', dtype='bfloat16')"}, {}, {}, 5, {})
    check_declared(given, "cache", teacher="a/large", written_by=None)
    for other in ("a/larg", "large", "bfloat16"):
        with pytest.raises(ValueError, match="but this run declares"):
            check_declared(given, "cache", teacher=other, written_by=None)


@pytest.mark.parametrize("teacher", ["small", "ab", ""])
def test_another_teacher_is_refused(teacher: str) -> None:
    with pytest.raises(ValueError, match=r"teacher 'large' \(weights ab12\).* declares teacher="):
        check_declared(manifest(["small"]), "cache", teacher=teacher, written_by=None)


@pytest.mark.parametrize(
    "writers", [["other"], ["other", "small"], ["small", None], [None], [], None], ids=str
)
def test_text_of_another_model_is_refused(writers: list[str | None] | None) -> None:
    with pytest.raises(ValueError, match="was written by .* declares written_by='small'"):
        check_declared(manifest(writers), "cache", teacher="large", written_by="small")


def test_a_cache_is_not_continued_with_text_of_another_model() -> None:
    (difference,) = manifest(["small"]).differences(manifest(["other"]))
    assert difference == "written_by: ['small'] and ['other']"
    assert manifest(["small"]).differences(manifest(["small"])) == []

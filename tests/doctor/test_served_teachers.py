from __future__ import annotations

from kdlight import FrozenTeacher, RemoteTeacher, TeacherEnsemble
from kdlight.doctor import examine
from kdlight.doctor.findings import Finding
from kdlight.doctor.served_teachers import served_teachers, unusable_servers
from tests.support.served_fit import Rows, batch, causal_lm, module, served, trainer


def test_a_server_is_asked_and_measured() -> None:
    with served(causal_lm(), k=60) as url:
        (first, answers) = served_teachers(RemoteTeacher(url, k=20), batch())
    assert not isinstance(first, Finding)
    assert not isinstance(answers, Finding)
    assert "by kdlight" in first[1]
    assert url in first[1]
    assert "102 tokens, longest sequence 256" in first[1]
    assert "k = 20" in answers[1]
    assert "positions/s" in answers[1]
    assert "bytes a position" in answers[1]


def test_each_server_of_an_ensemble_is_asked() -> None:
    with served(causal_lm()) as one, served(causal_lm(), states="float32") as other:
        both = {"a": RemoteTeacher(one), "b": RemoteTeacher(other, states=True)}
        found = [*served_teachers(TeacherEnsemble(both), batch())]
    assert len(found) == 4
    assert "hidden states" in str(found[3])


def test_a_server_that_does_not_answer_is_an_error() -> None:
    teacher = RemoteTeacher("http://127.0.0.1:9", retries=0)
    for findings in (served_teachers(teacher, batch()), unusable_servers(teacher)):
        (finding,) = findings
        assert isinstance(finding, Finding)
        assert "did not answer" in str(finding)
    assert [*unusable_servers(FrozenTeacher(causal_lm()))] == []


def test_other_teachers_are_left_alone() -> None:
    assert [*served_teachers(FrozenTeacher(causal_lm()), batch())] == []
    assert [*served_teachers(None, batch())] == []


def test_the_report_has_the_facts(tmp_path: object) -> None:
    with served(causal_lm()) as url:
        made = module(RemoteTeacher(url, k=7))
        report = examine(made, Rows(), trainer(tmp_path))  # type: ignore[arg-type]
    assert not report.errors, str(report)
    assert "served teacher" in str(report)
    assert "k = 7" in str(report)

"""A server that restarts with another teacher is refused, in the middle of a run as well."""

from __future__ import annotations

import pytest
import torch

from kdlight import RemoteTeacher
from kdlight.endpoints import RequestRefused
from kdlight.remote.expected_weights import expected_weights, other_weights
from kdlight.serve import ServedTeacher, TeacherServer
from tests.support.served_fit import batch, causal_lm


def server(seed: int, port: int = 0) -> TeacherServer:
    return TeacherServer(ServedTeacher(causal_lm(seed=seed), states="float32"), port=port)


@pytest.mark.parametrize("options", [{"k": 5}, {"states": True}, {"k": 5, "tokens": "student"}])
def test_other_weights_are_refused_until_the_next_run(options: dict[str, object]) -> None:
    student = torch.randn(*batch()["input_ids"].shape, 102)
    with server(1) as first:
        url, port = first.url, int(first.url.rpartition(":")[2])
        teacher = RemoteTeacher(url, **options)  # type: ignore[arg-type]
        teacher.answer(batch(), student)
    with server(1, port):  # a restart
        teacher.answer(batch(), student)
    with server(2, port):
        with pytest.raises(RequestRefused, match="now has a teacher with the weights") as error:
            teacher.answer(batch(), student)
        assert error.value.status == 409
        teacher.release()
        new = teacher.answer(batch(), student)
        expected = RemoteTeacher(url, **options).answer(batch(), student)  # type: ignore[arg-type]
        mask = batch()["attention_mask"].bool()
        torch.testing.assert_close(new.logits()[mask], expected.logits()[mask])


def test_without_a_fingerprint_nothing_is_compared() -> None:
    assert expected_weights(None) == {}
    assert other_weights(None, "a") is None
    assert "weights b" in str(other_weights("a", "b"))

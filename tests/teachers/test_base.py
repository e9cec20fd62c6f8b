"""The contract of a teacher: one that contains others forwards to each of them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from kdlight import Dense, SelectiveTeacher, TeacherEnsemble
from kdlight.sources import LogitsSource
from kdlight.teachers import Teacher

DEVICE, MESH = torch.device("meta"), object()


class Recording(Teacher):
    """Records calls of its lifecycle."""

    def __init__(self, network: nn.Module | None = None) -> None:
        self.network = network
        self.calls: list[Any] = []

    def answer(self, batch: Any, student: Any = None, labels: Any = None) -> LogitsSource:
        return Dense(torch.zeros(len(batch), 3))

    def networks(self) -> list[nn.Module]:
        return [] if self.network is None else [self.network]

    def prepare(self, device: torch.device) -> None:
        self.calls.append(device)

    def distribute(self, mesh: Any) -> None:
        self.calls.append(mesh)

    def offload(self) -> None:
        self.calls.append("offload")

    def release(self) -> None:
        self.calls.append("release")

    def check_tokenizer(self, tokenizer: Any) -> None:
        self.calls.append(tokenizer)


WRAPPERS = {
    "ensemble": lambda *inner: TeacherEnsemble({str(i): each for i, each in enumerate(inner)}),
    "selective": lambda *inner: SelectiveTeacher(inner[0]),
    "nested": lambda *inner: TeacherEnsemble({"a": SelectiveTeacher(inner[0]), "b": inner[1]}),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapper_forwards_its_lifecycle(kind: str) -> None:
    inner = Recording(), Recording()
    wrapper = WRAPPERS[kind](*inner)
    wrapper.prepare(DEVICE)
    wrapper.distribute(MESH)  # type: ignore[arg-type]
    wrapper.offload()
    wrapper.release()
    wrapper.check_tokenizer("tokenizer")
    expected = [DEVICE, MESH, "offload", "release", "tokenizer"]
    assert inner[0].calls == expected
    assert inner[1].calls == (expected if kind != "selective" else [])


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_wrapper_has_the_properties_of_its_teachers(kind: str) -> None:
    class Special(Recording):
        needs_student = property(lambda self: True)
        is_sharded = property(lambda self: True)
        translates_tokens = property(lambda self: True)
        vocab_size = property(lambda self: 7)

        def metrics(self) -> dict[str, float]:
            return {"special": 1.0}

        def mask_student(self, student: Any) -> Any:
            return student - 1

    network = nn.Linear(2, 2)
    special, usual = Special(network), Recording()
    for inner in ((special, usual), (usual, special)):
        wrapper, has_special = WRAPPERS[kind](*inner), kind != "selective" or inner[0] is special
        assert wrapper.is_sharded == has_special
        assert wrapper.translates_tokens == has_special
        assert wrapper.vocab_size == (7 if has_special else None)
        assert wrapper.networks() == ([network] if has_special else [])
        assert ("special" in wrapper.metrics()) == has_special
        assert torch.equal(wrapper.mask_student(torch.ones(2)), torch.ones(2) - int(has_special))
        assert wrapper.needs_student == (has_special or kind != "ensemble")


def test_a_teacher_without_others_has_defaults() -> None:
    teacher = Recording()
    assert not teacher.needs_student
    assert not teacher.is_sharded
    assert not teacher.translates_tokens
    assert (teacher.vocab_size, teacher.metrics(), [*teacher.teachers()]) == (None, {}, [])
    assert teacher.mask_student(DEVICE) is DEVICE  # type: ignore[arg-type]
    assert teacher(torch.zeros(2)).shape == (2, 3)


def test_new_text_is_scored_by_networks_and_by_those_who_say_so() -> None:
    class Served(Recording):
        scores_new_text = property(lambda self: True)

    class Both(Recording):
        def __init__(self, *parts: Any) -> None:
            super().__init__()
            self.parts = parts

        def teachers(self) -> Any:
            return self.parts

    live, stored, served = Recording(nn.Linear(2, 2)), Recording(), Served()
    assert live.scores_new_text
    assert served.scores_new_text
    assert not stored.scores_new_text
    assert Both(live, served).scores_new_text
    assert not Both(live, stored).scores_new_text  # as one of them fails at the first new text


def test_a_teacher_is_shared_by_copies_of_its_module() -> None:
    teacher = Recording(nn.Linear(2, 2))
    assert copy.deepcopy({"teacher": teacher})["teacher"] is teacher


def test_a_teacher_must_define_answer() -> None:
    with pytest.raises(TypeError, match="abstract method '?answer'?"):
        Teacher()  # type: ignore[abstract]

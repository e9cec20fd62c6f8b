"""What training changes is not shared by student and teacher; an error changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from kdlight import FrozenTeacher, SelectiveTeacher, TeacherEnsemble
from kdlight.teachers import check_shared


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 5))


WRAPPERS: dict[str, Any] = {
    "network": lambda each: each,
    "frozen": FrozenTeacher,
    "ensemble": lambda each: TeacherEnsemble({"a": nn.Linear(3, 5), "b": each}),
    "selective": SelectiveTeacher,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_shared_part_is_named_and_the_student_stays_trainable(wrapper: str) -> None:
    student = network()
    student[2].eval()
    parts = list(student)[:3]
    teacher = WRAPPERS[wrapper](nn.Sequential(*parts, nn.Linear(4, 5)))
    with pytest.raises(ValueError, match=r"share 7 parts: '0.weight', '0.bias', '1.weight' and"):
        check_shared(student, teacher)
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert [part.training for part in student] == [True, True, False, True]


def test_the_student_itself_is_no_teacher_but_a_copy_is() -> None:
    student = network()
    with pytest.raises(ValueError, match="copy.deepcopy"):
        check_shared(student, FrozenTeacher(student))
    check_shared(student, FrozenTeacher(copy.deepcopy(student)))
    check_shared(student, None)


@pytest.mark.parametrize("part", ["statistics", "dropout", "memory", "part of the memory"])
def test_what_is_no_parameter_of_both_is_found_too(part: str) -> None:
    student: Any = network()
    teacher: Any = network()
    if part == "statistics":
        teacher[1].running_mean = student[1].running_mean
    elif part == "dropout":
        teacher[2] = student[2]
    elif part == "memory":
        teacher[0].weight = nn.Parameter(student[0].weight.detach())
    else:
        teacher[0].weight = nn.Parameter(student[0].weight.detach()[2:])
    with pytest.raises(ValueError, match="share 1 parts: "):
        check_shared(student, FrozenTeacher(teacher))


def test_constants_and_weights_that_are_not_trained_may_be_shared() -> None:
    student, teacher = network(), network()
    student[0].requires_grad_(False)
    teacher[0] = student[0]
    for each in (student, teacher):
        each.register_buffer("mask", torch.ones(3, dtype=torch.bool))
        each.register_buffer("angles", torch.ones(3), persistent=False)
    teacher.mask, teacher.angles = student.mask, student.angles
    check_shared(student, teacher)
    check_shared(student, FrozenTeacher(teacher))
    assert not student[0].weight.requires_grad


def test_adapters_within_the_teacher_are_found() -> None:
    """Peft changes the model that it adapts in place."""
    peft = pytest.importorskip("peft")
    base = network()
    student = peft.get_peft_model(base, peft.LoraConfig(target_modules=["0"], r=2))
    with pytest.raises(ValueError, match="lora_A"):
        check_shared(student, base)

"""Which teachers can answer new prompts."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from kdlight import CausalLM, DistillationModule
from kdlight.callbacks.round_recipes.teacher_network import check_answers, teacher_network
from kdlight.objectives import CrossEntropy, ForwardKL
from kdlight.teachers import FrozenTeacher, TeacherEnsemble
from tests.support import tiny_lm


def network(seed: int = 1) -> CausalLM:
    return CausalLM.wrap(tiny_lm.model(seed=seed))


def module(teacher: Any) -> DistillationModule:
    objective = CrossEntropy() if teacher is None else ForwardKL()
    return DistillationModule(network(), objective, teacher)


def test_a_live_language_model_answers() -> None:
    teacher = network(2)
    made = module(FrozenTeacher(teacher))
    check_answers("Asks", made)
    assert teacher_network(made) is teacher


def test_a_teacher_with_other_tokens_is_refused() -> None:
    class Translating(FrozenTeacher):
        translates_tokens = property(lambda self: True)

    with pytest.raises(ValueError, match="a Translating has a tokenizer of its own; give a func"):
        check_answers("Asks", module(Translating(network(2))))


@pytest.mark.parametrize(
    ("teacher", "match"),
    [
        pytest.param(lambda: None, "Asks needs a teacher .* and there is none", id="none"),
        pytest.param(
            lambda: FrozenTeacher(lambda batch: batch),  # type: ignore[arg-type]
            "but a FrozenTeacher has no network to generate them",
            id="function",
        ),
        pytest.param(
            lambda: TeacherEnsemble({"a": network(2), "b": network(3)}),
            "needs one teacher that answers, got 2",
            id="several",
        ),
        pytest.param(lambda: FrozenTeacher(nn.Linear(2, 2)), "and Linear does not", id="mute"),
        pytest.param(lambda: FrozenTeacher(network(2), shard=True), "has shard=True", id="sharded"),
    ],
)
def test_others_are_refused(teacher: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_answers("Asks", module(teacher()))

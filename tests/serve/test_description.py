"""What a server tells about its teacher is what a client compares."""

from __future__ import annotations

from torch import nn

from kdlight import FrozenTeacher, TeacherEnsemble
from kdlight.cache.fingerprints import fingerprint_tokenizer, fingerprint_weights
from kdlight.serve.description import describe_teacher, dtype_of, input_size
from tests.support import tiny_lm
from tests.support.served import V, network


def linear() -> nn.Module:
    return nn.Linear(2, 3)


def test_it_has_the_fingerprints_of_a_cache() -> None:
    teacher, tokenizer = FrozenTeacher(network(), dtype="bfloat16"), tiny_lm.tokenizer()
    about = describe_teacher(teacher, name="tiny", vocabulary=100, tokenizer=tokenizer)
    assert about["tokenizer"] == fingerprint_tokenizer(tokenizer)
    assert about["weights"] == fingerprint_weights(teacher.networks())
    assert (about["vocab_size"], about["input_size"], about["context_length"]) == (100, V, 256)
    assert (about["model"], about["dtype"]) == ("tiny", "bfloat16")


def test_the_smallest_vocabulary_limits_what_is_read() -> None:
    assert input_size(TeacherEnsemble({"a": network(), "b": linear()}), 300) == V
    assert input_size(FrozenTeacher(linear()), 300) == 300


def test_dtypes_are_named_once() -> None:
    teachers = {"a": linear(), "b": linear().bfloat16(), "c": linear()}
    assert dtype_of(TeacherEnsemble(teachers)) == "float32, bfloat16"

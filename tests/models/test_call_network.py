"""Any network is called on a batch, and the axis of its classes is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BatchEncoding

from kdlight.models.call_network import binary_logits, call_network, plain_logits, to_logits
from kdlight.sources import Dense, Projected
from tests.families.families import FAMILIES
from tests.families.family import maker, text, transformers
from tests.families.of_text import BERT


def test_a_failure_on_a_whole_batch_names_the_wrapper() -> None:
    linear = nn.Linear(3, 5)
    for batch, key in (({"x": torch.zeros(2, 3)}, "'x'"), ([torch.zeros(2, 3)], "0"), ({}, "0")):
        with pytest.raises(TypeError, match=rf"Linear was called with the.*key={key}\)"):
            call_network(linear, batch)


def test_a_failure_on_a_tensor_is_not_hidden() -> None:
    def broken(batch: Tensor) -> Tensor:
        raise AttributeError("of the network itself")

    with pytest.raises(AttributeError, match="of the network itself"):
        call_network(broken, torch.zeros(2, 3))


def test_logits_are_a_tensor_a_source_or_in_an_object() -> None:
    logits = torch.randn(2, 3, 5)
    source = Dense(logits)
    assert call_network(lambda batch: source, None) is source
    for output in (logits, SimpleNamespace(logits=logits)):
        assert call_network(lambda batch, output=output: output, None).logits() is logits
    with pytest.raises(TypeError, match="got dict"):
        call_network(lambda batch: {"scores": logits}, None)


@pytest.mark.parametrize("wrap", [dict, BatchEncoding])
def test_a_model_of_transformers_gets_every_input_of_a_batch(wrap: Any) -> None:
    family = FAMILIES["bert_sequences"]
    model, batch = family.make(0), family.batch(0)
    assert torch.equal(call_network(model, wrap(batch)).logits(), model(**batch).logits)


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 5, 3, 4, 4), (2, 1, 4, 4, 5)])
def test_maps_of_unknown_axis_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"any axis could hold.*class_dim=1"):
        call_network(lambda batch: torch.zeros(shape), None)


def test_the_axis_of_classes_is_moved_to_the_end() -> None:
    maps = torch.randn(2, 5, 4, 3)
    assert torch.equal(to_logits(maps, class_dim=1, name="net").logits(), maps.movedim(1, -1))
    assert torch.equal(to_logits(maps, class_dim=-1, name="net").logits(), maps)
    projected = Projected(torch.zeros(2, 3, 4), nn.Linear(4, 5))
    assert to_logits(projected, class_dim=1, name="net") is projected
    for class_dim in (4, -5):
        with pytest.raises(ValueError, match=rf"class_dim={class_dim} is no axis .* of net"):
            to_logits(maps, class_dim=class_dim, name="net")


def test_a_pair_of_logits_has_the_sigmoid_as_its_softmax() -> None:
    logits = torch.randn(4, 3)
    pairs = binary_logits(Dense(logits)).logits().softmax(-1)
    torch.testing.assert_close(pairs, torch.stack((1 - logits.sigmoid(), logits.sigmoid()), -1))


def test_a_model_with_several_labels_answers_questions() -> None:
    make = maker(
        "BertForSequenceClassification", "BertConfig", **BERT, num_labels=4,
        problem_type="multi_label_classification",
    )  # fmt: skip
    model, batch = make(0), text(0)
    own = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    got = call_network(model, {**batch, "labels": torch.zeros(3, 4)}).logits()
    torch.testing.assert_close(got.softmax(-1)[..., 1], own.sigmoid())
    assert plain_logits(model, {**batch, "labels": None}).shape == (3, 4)


def test_one_logit_for_each_token_is_no_distribution_over_tokens() -> None:
    config = transformers.ElectraConfig(**BERT, embedding_size=8)
    model, batch = (
        transformers.ElectraForPreTraining(config),
        {"input_ids": torch.ones(2, 7).long()},
    )
    with pytest.raises(ValueError, match=r"ElectraForPreTraining returns logits of shape \(2, 7\)"):
        call_network(model, batch)
    assert plain_logits(model, batch).shape == (2, 7)


def test_an_output_without_logits_is_to_be_named() -> None:
    model = transformers.BertForQuestionAnswering(transformers.BertConfig(**BERT))
    with pytest.raises(ValueError, match=r"has no output 'logits'.*'start_logits'\] with .*wrap"):
        call_network(model, text(0))

"""Where the labels of a module's batches stand: the argument tells, or the model, or the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.models import ModelKind
from kdlight.modules.label_format import LabelFormat

IDS = torch.tensor([[3, 4, 5]])
SHIFTED = {"input_ids": IDS, "labels": torch.tensor([[4, 5, -100]])}
TEXT = {"input_ids": IDS, "labels": IDS}
CAUSAL, ALIGNED, UNKNOWN = ModelKind("causal"), ModelKind("aligned"), ModelKind()


def rule(batch: Any, kind: ModelKind, *, check: bool = True, **options: Any) -> str:
    return LabelFormat(**options).rule_of(batch, kind, check=check)


@pytest.mark.parametrize("given", ["causal", "aligned", "none"])
def test_the_argument_is_stronger_than_all_else(given: Any) -> None:
    for batch in (TEXT, SHIFTED):
        assert [rule(batch, kind, rule=given) for kind in (CAUSAL, ALIGNED)] == [given, given]


def test_the_kind_is_stronger_than_the_batch() -> None:
    assert rule(TEXT, ALIGNED) == "aligned"
    assert rule({"input_ids": IDS, "labels": IDS + 9}, CAUSAL) == "causal"
    assert rule(TEXT, ModelKind("none")) == "none"


def test_the_batch_tells_where_the_kind_does_not() -> None:
    assert rule(TEXT, UNKNOWN) == "causal"
    assert rule((torch.zeros(2, 3), torch.zeros(2)), UNKNOWN) == "aligned"
    with pytest.raises(ValueError, match="shifted already"):
        rule(SHIFTED, UNKNOWN)


def test_labels_that_are_shifted_already_are_refused_by_a_causal_model_at_first() -> None:
    with pytest.raises(ValueError, match=r"shifted already.*labels='aligned'"):
        rule(SHIFTED, CAUSAL)
    assert rule(SHIFTED, CAUSAL, check=False) == "causal"
    same = {"input_ids": torch.full((1, 3), 7), "labels": torch.full((1, 3), 7)}
    assert rule(same, CAUSAL) == "causal"  # both are true of them
    for batch in ({"input_ids": IDS}, {"input_ids": IDS, "labels": torch.tensor([1])}, (IDS, IDS)):
        assert rule(batch, CAUSAL) == "causal"


def test_what_a_batch_told_holds_for_later_ones() -> None:
    labels = LabelFormat()
    nothing = {"input_ids": IDS, "labels": torch.full_like(IDS, -100)}
    assert labels.rule_of(nothing, UNKNOWN, check=True) == "causal"
    assert labels.rule_of(TEXT, UNKNOWN, check=False) == "causal"
    assert labels.rule_of({"input_ids": IDS, "labels": IDS + 9}, UNKNOWN, check=False) == "causal"
    assert labels.rule_of({"pixel_values": IDS}, UNKNOWN, check=False) == "none"


def test_an_encoder_decoder_ignores_one_value_only() -> None:
    kind = ModelKind("aligned", is_encoder_decoder=True)
    assert rule(TEXT, kind) == "aligned"
    with pytest.raises(ValueError, match="ignore_index is 0, but the model makes the inputs"):
        rule(TEXT, kind, ignore_index=0)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="labels must be one of 'auto', 'causal', .* 'shifted'"):
        LabelFormat("shifted")  # type: ignore[arg-type]
    for value in (True, 1.0, None):
        with pytest.raises(ValueError, match=f"ignore_index must be an integer, got {value}"):
            LabelFormat(ignore_index=value)  # type: ignore[arg-type]

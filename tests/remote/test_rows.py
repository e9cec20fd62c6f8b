from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.remote.rows import token_rows

IDS = torch.tensor([[5, 6, 7, 0], [8, 9, 0, 0]])


def tokens(batch: Any) -> dict[int, tuple[list[int], int]]:
    return {number: (row.tokens, row.start) for number, row in token_rows(batch).items()}


def test_padding_is_left_out_at_both_ends() -> None:
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0]])
    assert tokens({"input_ids": IDS, "attention_mask": mask}) == {
        0: ([6, 7, 0], 1),
        1: ([8, 9], 0),
    }


def test_without_a_mask_a_row_ends_with_the_last_label() -> None:
    """The label that the last valid position predicts is the last token that a server reads."""
    labels = torch.tensor([[5, 6, 7, -100], [-100, -100, -100, -100]])
    assert tokens({"input_ids": IDS, "labels": labels}) == {0: ([5, 6, 7], 0)}


def test_without_labels_all_tokens_are_read() -> None:
    assert tokens({"input_ids": IDS})[1] == ([8, 9, 0, 0], 0)


def test_a_key_is_that_of_the_tokens() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    padded = token_rows({"input_ids": IDS, "attention_mask": mask})
    alone = token_rows({"input_ids": IDS[:1, :3], "attention_mask": mask[:1, :3]})
    assert padded[0].key == alone[0].key != padded[1].key


@pytest.mark.parametrize("name", ["index", "weights", "domain"])
def test_what_is_no_input_is_left_alone(name: str) -> None:
    other: Any = ["a", "b"] if name == "domain" else torch.rand(2, 3)
    assert len(token_rows({"input_ids": IDS, name: other})) == 2


OTHER = ["pixel_values", "input_features", "decoder_input_ids", "token_type_ids", "seq_idx"]


@pytest.mark.parametrize("name", OTHER)
def test_other_inputs_are_refused(name: str) -> None:
    is_token = name.endswith(("ids", "idx"))
    other = torch.ones(2, 3, dtype=torch.long) if is_token else torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=name):
        token_rows({"input_ids": IDS, name: other})


def test_types_of_one_kind_are_what_a_model_has_without_them() -> None:
    assert len(token_rows({"input_ids": IDS, "token_type_ids": torch.zeros_like(IDS)})) == 2


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_labels_at_the_logits_that_predict_them(stop: int) -> None:
    labels = torch.full_like(IDS, -100)
    labels[0, stop - 1] = 3
    assert tokens({"input_ids": IDS, "labels": labels}) == {0: (IDS[0, :stop].tolist(), 0)}


def test_positions_with_a_mask_count_from_its_beginning() -> None:
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    counted = torch.tensor([[0, 0, 1, 2], [0, 1, 2, 3]])
    assert token_rows({"input_ids": IDS, "attention_mask": mask, "position_ids": counted})
    assert token_rows(
        {
            "input_ids": IDS,
            "attention_mask": torch.ones_like(IDS),
            "position_ids": torch.arange(4)[None],
        }
    )
    wrong = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]])
    with pytest.raises(ValueError, match="position_ids do not count"):
        token_rows({"input_ids": IDS, "attention_mask": mask, "position_ids": wrong})


@pytest.mark.parametrize("batch", [IDS, (IDS, IDS), {"x": IDS}, {"input_ids": [1, 2]}], ids=type)
def test_what_has_no_tokens_is_refused(batch: Any) -> None:
    with pytest.raises(TypeError, match="reads token ids"):
        token_rows(batch)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(B, T\), got \(2, 4, 1\)"):
        token_rows({"input_ids": IDS[..., None]})

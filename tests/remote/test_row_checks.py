from __future__ import annotations

import pytest
import torch

from kdlight.remote.answers import to_sequence
from kdlight.remote.row_checks import check_scored, check_tokens
from kdlight.remote.rows import TokenRow


def test_rows_that_fit() -> None:
    check_tokens({0: TokenRow(b"", [0, 4], 0)}, vocab_size=5, length=2)
    check_tokens({0: TokenRow(b"", [0, 400], 0)}, vocab_size=None, length=None)


def test_a_negative_id_is_told() -> None:
    with pytest.raises(ValueError, match="row 2 .* token id -1"):
        check_tokens({2: TokenRow(b"", [-1, 4], 0)}, vocab_size=5, length=None)


def test_a_valid_position_without_an_answer_is_told() -> None:
    ids = torch.tensor([[9, 5, 6, 7]])
    scored = to_sequence(3, [(0, [1], [-0.5]), (1, [1], [-0.5])], vocab_size=10)
    check_scored({"input_ids": ids}, {0: scored}, {0: 1}, "a server")
    some = to_sequence(3, [(0, [1], [-0.5])], vocab_size=10)
    with pytest.raises(ValueError, match="no log-probabilities for position 2 of row 0"):
        check_scored({"input_ids": ids}, {0: some}, {0: 1}, "a server")
    labels = torch.tensor([[-100, 5, 6, -100]])
    check_scored({"input_ids": ids, "labels": labels}, {0: some}, {0: 1}, "a server")

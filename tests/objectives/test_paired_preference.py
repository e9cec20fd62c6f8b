"""The base class of pairs: which sequences form one, and what is logged."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.objectives import LossInputs, SimPO
from kdlight.objectives.paired_preference import PairedPreference
from tests.support.preferences import preferences


class Margin(PairedPreference):
    """Rejected minus chosen log-probabilities."""

    def pairs(self, sums: Tensor, reference: Tensor | None, lengths: Tensor) -> Tensor:
        assert reference is None
        return sums[1] - sums[0]


def sums(inputs: LossInputs) -> Tensor:
    assert inputs.labels is not None
    return losses.sequence_log_probs(inputs.student.logits(), inputs.labels)[0].detach()


def test_the_kth_chosen_and_the_kth_rejected_sequence_are_a_pair() -> None:
    inputs = preferences([True, False, False, True])
    u = sums(inputs)
    loss = Margin()(inputs)
    torch.testing.assert_close(loss.total.detach(), (u[0] - u[1]) + (u[3] - u[2]))
    assert (loss.count, Margin.unit) == (2, "pair")


def test_a_pair_without_a_valid_position_on_one_side_is_left_out() -> None:
    inputs = preferences([True, False, False, True])
    assert inputs.mask is not None
    mask = inputs.mask.clone()
    mask[2] = False
    partial = LossInputs(inputs.student, None, inputs.labels, mask, rejected=inputs.rejected)
    u = sums(inputs)
    loss = Margin()(partial)
    torch.testing.assert_close(loss.total.detach(), u[0] - u[1])
    assert loss.count == 1


def test_sums_and_lengths_of_both_kinds_are_logged() -> None:
    inputs = preferences([False, True, True, False])  # lengths 3, 6, 2, 4
    u, parts = sums(inputs), Margin()(inputs).parts
    torch.testing.assert_close(parts["chosen_sum"], u[[0, 3]].sum())
    torch.testing.assert_close(parts["rejected_sum"], u[[1, 2]].sum())
    assert (parts["chosen_length"], parts["rejected_length"]) == (7, 8)
    assert parts["short_rejected"] == 1  # 2 < 4


def test_sequences_that_form_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 chosen and 1 rejected"):
        SimPO()(preferences([False, False, True]))


def test_a_subclass_without_pairs_is_named() -> None:
    class Nothing(PairedPreference):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing does not define pairs\(\)"):
        Nothing()(preferences([False, True]))

"""A training step of a user gets the arguments that it takes, and says what it returned."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.modules.own_step import call_own_step, loss_and_logits


def both(batch: Any, batch_idx: int) -> Any:
    return batch, batch_idx


def open_ended(batch: Any, *args: Any, **kwargs: Any) -> Any:
    return batch, *args


def test_a_step_gets_what_it_takes() -> None:
    assert call_own_step(lambda batch: batch, "b", 3) == "b"
    assert call_own_step(both, "b", 3) == call_own_step(both, "b", batch_idx=3) == ("b", 3)
    assert call_own_step(open_ended, "b", 3) == ("b", 3)


def test_loss_and_logits_are_found() -> None:
    weight = torch.ones(2, requires_grad=True)
    loss, logits = weight.sum(), weight * 2
    assert loss_and_logits(loss) == (loss, None)
    found = loss_and_logits({"loss": loss, "logits": logits})
    assert found[0] is loss
    assert found[1] is logits
    assert loss_and_logits({"loss": loss.detach(), "logits": logits.detach()})[1] is not None
    with pytest.raises(ValueError, match="return logits that are not detached"):
        loss_and_logits({"loss": loss, "logits": logits.detach()})
    with pytest.raises(TypeError, match="returned 'text'"):
        loss_and_logits("text")

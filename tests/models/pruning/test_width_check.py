"""What the copy would compute otherwise is found before training."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdlight.models import prune_width
from kdlight.models.pruning.decoder_parts import decoder_parts
from kdlight.models.pruning.width_check import check_width_pruned
from tests.models.pruning.width_models import decoder, logits

KEPT = {"hidden": torch.arange(12)} | {
    f"{axis} {layer}": torch.arange(size)
    for layer in range(3)
    for axis, size in (("queries", 8), ("keys", 4), ("neurons", 10))
}


def pair() -> tuple[Any, Any]:
    model = decoder("llama")
    return model, prune_width(model, heads=2, feed_forward=10, hidden=12, importance="first")


def check(model: Any, student: Any) -> None:
    check_width_pruned(model, student, decoder_parts(model), KEPT)


def test_a_right_copy_passes_and_no_hook_is_left() -> None:
    model, student = pair()
    before = logits(model)
    check(model, student)
    assert torch.equal(logits(model), before)


def test_every_wrong_weight_is_found() -> None:
    # a constant that is added to all keys changes no attention
    model, right = pair()
    names = [name for name, _ in right.named_parameters() if "layers.0" not in name]
    names = [name for name in names if "layers.2" not in name and "k_proj.bias" not in name]
    assert len(names) > 15
    for name in names:
        _, student = pair()
        with torch.no_grad():
            student.get_parameter(name).add_(torch.rand_like(student.get_parameter(name)))
        with pytest.raises(ValueError, match="the logits differ by"):
            check(model, student)


def test_units_in_another_order_are_found() -> None:
    model, student = pair()
    with torch.no_grad():
        student.lm_head.weight.copy_(student.lm_head.weight.roll(1, 1))
    with pytest.raises(ValueError, match="the logits differ by"):
        check(model, student)


def test_another_setting_is_found() -> None:
    """On a few tokens a dropout, or a window, would not show in logits."""
    model, student = pair()
    student.model.layers[2].self_attn.attention_dropout = 0.1
    with pytest.raises(ValueError, match=r"layers.2.self_attn.attention_dropout=0.0, but .* 0.1"):
        check(model, student)


def test_another_buffer_is_found() -> None:
    model, student = pair()
    student.model.rotary_emb.inv_freq.mul_(1.1)
    with pytest.raises(ValueError, match=r"model.rotary_emb.inv_freq differs"):
        check(model, student)


def test_a_model_that_was_changed_by_hand_is_no_silent_loss() -> None:
    model = decoder("llama")
    model.model.layers[1].register_forward_hook(lambda layer, inputs, output: output * 2)
    with pytest.raises(ValueError, match="the logits differ by"):
        prune_width(model, feed_forward=10, importance="first")


def test_gradient_checkpointing_changes_nothing_that_is_computed() -> None:
    model = decoder("llama")
    model.model.gradient_checkpointing = True
    student: Any = prune_width(model, heads=2, importance="first")
    assert student.config.num_attention_heads == 2

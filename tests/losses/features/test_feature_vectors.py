"""Losses on features, compared with vectors of published code (tests/conformance/README.md)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight.losses.features.attention_relation import attention_relation
from kdlight.losses.features.inter_channel_correlation import inter_channel_correlation
from kdlight.losses.features.similarity_preserving import similarity_preserving
from tests.methods.test_conformance import read

ROOT = Path(__file__).parents[2] / "conformance"
DISWOT = sorted((ROOT / "diswot").glob("*.safetensors"))
AUTODISTIL = sorted((ROOT / "autodistil").glob("*.safetensors"))

each_type = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])


def agree(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance / 1000)


def test_all_vectors_are_there() -> None:
    assert (len(DISWOT), len(AUTODISTIL)) == (3, 2)


@pytest.mark.parametrize("path", DISWOT, ids=lambda path: path.stem)
@each_type
def test_relation_and_semantic_metric_of_diswot(path: Path, dtype: torch.dtype) -> None:
    meta, tensors = read(path)
    student = tensors["student_feat"].to(dtype).requires_grad_()
    teacher = tensors["teacher_feat"].to(dtype)
    if meta["hparams"]["kind"] == "relation":
        loss = similarity_preserving(student, teacher)
    else:
        loss = inter_channel_correlation(student, teacher).mean()
    agree(loss.detach(), tensors["expected_loss"], dtype)
    agree(torch.autograd.grad(loss, student)[0], tensors["expected_grad"], dtype)
    assert tensors["expected_zero_shot_score"] == -tensors["expected_loss"]


def relations(tensors: dict[str, Tensor], dtype: torch.dtype, **options: Any) -> Any:
    """Losses of queries, keys and values, and their gradients in the student's projections.

    The authors split each projection into 12 heads of floor(width / 12) columns and drop the other
    columns. kdlight refuses such a width, so they are dropped here.
    """
    losses, gradients = [], []
    for name in "qkv":
        student = tensors[f"student_{name}"].to(dtype).requires_grad_()
        teacher = tensors[f"teacher_{name}"].to(dtype)
        kept = [x[..., : 12 * (x.shape[-1] // 12)] for x in (student, teacher)]
        losses.append(attention_relation(*kept, heads=12, **options))
        gradients += torch.autograd.grad(losses[-1].mean(), student)
    return losses, gradients


@pytest.mark.parametrize("path", AUTODISTIL, ids=lambda path: path.stem)
@each_type
def test_squared_differences_of_scores_of_autodistil(path: Path, dtype: torch.dtype) -> None:
    """The authors add -10000 to the scores of padding on both sides, which cancels: no mask."""
    meta, tensors = read(path)
    assert meta["hparams"]["relation_heads"] == 12
    losses, gradients = relations(tensors, dtype, kind="mse")
    agree(torch.stack(losses).mean((1, 2)).sum().detach(), tensors["expected_loss"], dtype)
    names = ("expected_grad", "expected_grad_k", "expected_grad_v")
    for gradient, name in zip(gradients, names, strict=True):
        expected = tensors[name]
        agree(gradient, expected, dtype)
        dropped = expected[..., 12 * (expected.shape[-1] // 12) :]
        assert (dropped == 0).all()


@each_type
def test_padding_counts_for_the_authors_and_not_here(dtype: torch.dtype) -> None:
    _, tensors = read(ROOT / "autodistil" / "masked_10heads.safetensors")
    mask = tensors["keep_mask"].bool()
    padding = ~mask[..., None]
    for kind in ("mse", "kl"):
        found = []
        for fill in (0.0, math.nan):
            filled = {
                k: v.masked_fill(padding, fill) if v.dim() == 3 else v for k, v in tensors.items()
            }
            losses, gradients = relations(filled, dtype, kind=kind, mask=mask)
            found.append((*losses, *gradients))
        torch.testing.assert_close(*found, rtol=0, atol=0)
        losses, gradients = relations(tensors, dtype, kind=kind, mask=mask)
        torch.testing.assert_close((*losses, *gradients), found[0], rtol=0, atol=0)
    filled = {k: v.masked_fill(padding, 0.0) if v.dim() == 3 else v for k, v in tensors.items()}
    losses, _ = relations(filled, dtype, kind="mse")  # as the authors do
    total = torch.stack(losses).mean((1, 2)).sum().double()
    assert not torch.isclose(total, tensors["expected_loss"], rtol=1e-2)

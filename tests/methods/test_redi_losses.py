"""Losses of chosen and rejected sequences: vectors of published code, and laws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import pad

from kdlight import losses
from kdlight.data import next_token_labels
from kdlight.objectives import DPO, REDI, LossInputs, SimPO

FILES = sorted((Path(__file__).parents[1] / "conformance" / "redi").glob("*.safetensors"))


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, "pt") as file:
        keys = file.keys()
        return json.loads(file.metadata()["meta"]), {key: file.get_tensor(key) for key in keys}


def objective(meta: dict[str, Any]) -> Any:
    numbers = meta["hparams"]
    if meta["objective"] == "redi":
        return REDI(alpha=numbers["alpha"], chosen_weight=numbers["chosen_coef"])
    if meta["objective"] == "dpo":
        return DPO(beta=numbers["beta"])
    return SimPO(beta=numbers["beta"], gamma=numbers["gamma"])


def by_functions(meta: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    """The loss of a vector, from `sequence_log_probs` and the loss of a pair."""
    batches = [(tensors[f"{s}_logits"], tensors[f"{s}_labels"]) for s in ("chosen", "rejected")]
    sums, lengths = zip(
        *(losses.sequence_log_probs(x, next_token_labels(y)) for x, y in batches), strict=True
    )
    numbers = meta["hparams"]
    if meta["objective"] == "dpo":
        reference = [
            losses.sequence_log_probs(
                tensors[f"ref_{s}_logits"], next_token_labels(tensors[f"{s}_labels"])
            )[0]
            for s in ("chosen", "rejected")
        ]
        return losses.dpo(*sums, *reference, beta=numbers["beta"]).mean()
    means = [u / n for u, n in zip(sums, lengths, strict=True)]
    if meta["objective"] == "simpo":
        return losses.simpo(*means, beta=numbers["beta"], gamma=numbers["gamma"]).mean()
    weights = {"alpha": numbers["alpha"], "chosen_weight": numbers["chosen_coef"]}
    return losses.redi(*means, **weights).mean()


def by_objective(meta: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    """The loss of a vector, by the objective on both halves as one padded batch."""
    longest = max(tensors[f"{s}_logits"].shape[1] for s in ("chosen", "rejected"))

    def joined(name: str) -> Tensor:
        halves = [tensors[name.format(side)] for side in ("chosen", "rejected")]
        fill = -100 if "labels" in name else 0.0
        missing = [longest - half.shape[1] for half in halves]
        return torch.cat(
            [
                pad(half, (0, 0) * (half.dim() - 2) + (0, more), value=fill)
                for half, more in zip(halves, missing, strict=True)
            ]
        )

    labels = next_token_labels(joined("{}_labels"))
    rejected = torch.arange(len(labels)) >= len(tensors["chosen_labels"])
    teacher = joined("ref_{}_logits") if meta["objective"] == "dpo" else None
    inputs = LossInputs(joined("{}_logits"), teacher, labels, labels != -100, rejected=rejected)
    return objective(meta)(inputs).mean()


@pytest.mark.parametrize("evaluate", [by_functions, by_objective])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_loss_and_gradient_are_the_references(path: Any, evaluate: Any) -> None:
    meta, tensors = read(path)
    leaves = [tensors[f"{side}_logits"].requires_grad_() for side in ("chosen", "rejected")]
    loss = evaluate(meta, tensors)
    exact = leaves[0].dtype == torch.float64
    close: dict[str, Any] = {"rtol": 1e-6 if exact else 2e-4, "atol": 1e-9 if exact else 1e-6}
    assert loss.dtype == leaves[0].dtype
    torch.testing.assert_close(loss, tensors["expected_loss"], **close)
    gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
    for gradient, side in zip(gradients, ("chosen", "rejected"), strict=True):
        torch.testing.assert_close(gradient, tensors[f"expected_grad_{side}_logits"], **close)

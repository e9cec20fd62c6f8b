"""DAC-KL, span loss and error detection, compared with vectors of their formulas.

No code of the authors is public: the vectors test the formulas, see tests/conformance/README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdlight import losses
from kdlight.losses.clipped_kl.clipping import clip
from kdlight.losses.correction import disagreement, worst
from kdlight.losses.span_kl import pair_values, pairs
from tests.methods.test_conformance import agree, read

VECTORS = sorted((Path(__file__).parents[1] / "conformance" / "dackl").glob("*.safetensors"))
LOADED = {path: read(path) for path in VECTORS}
FORWARD = {"rule": "mass", "tail": "renorm", "gate": "hard", "include_argmax": True}


def of(*functions: str) -> pytest.MarkDecorator:
    chosen = [path for path in VECTORS if LOADED[path][0]["hparams"]["fn"] in functions]
    assert chosen
    return pytest.mark.parametrize("path", chosen, ids=lambda path: path.stem)


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 14


def clipped(hyper: dict[str, Any], tensors: dict[str, Tensor], **leaves: Tensor) -> Any:
    options = {key: hyper.get(key, default) for key, default in FORWARD.items()}
    if hyper["fn"] == "dac_clamp":
        options["rule"] = "clamp"
    return clip(
        leaves["student"],
        tensors["teacher_logits"].to(leaves["student"]),
        lower=leaves["lower"],
        upper=leaves["upper"],
        labels=tensors["labels"] if hyper.get("include_target", True) else None,
        gate_temperature=hyper.get("gate_temp", 0.05),
        residual=0.0,
        temperature=hyper.get("tau", 1.0),
        head=None,
        **options,
    )


@of("dac_kl", "dac_clamp")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_loss_and_gradients_are_those_of_the_vector(path: Path, dtype: torch.dtype) -> None:
    meta, tensors = LOADED[path]
    hyper, mask = meta["hparams"], tensors["mask"].bool()
    names = {"student": "student_logits", "lower": "lower", "upper": "upper"}
    leaves = {key: tensors[name].to(dtype).requires_grad_() for key, name in names.items()}
    result = clipped(hyper, tensors, **leaves)
    scale = hyper.get("tau", 1.0) ** 2
    values = scale * result.values
    agree(values[mask].detach(), tensors["expected_per_token"][mask], dtype)
    loss = losses.masked_mean(values, mask)
    agree(loss.detach(), tensors["expected_loss"], dtype)
    if "expected_teacher_mass" in tensors:
        agree(result.mass.detach(), tensors["expected_teacher_mass"], dtype)
        agree(result.kept.detach(), tensors["expected_gate"].sum(-1), dtype)
    wanted = [key for key in leaves if f"expected_grad_{key}" in tensors]
    gradients = torch.autograd.grad(loss, [leaves[key] for key in wanted])
    for key, gradient in zip(wanted, gradients, strict=True):
        agree(gradient, tensors[f"expected_grad_{key}"], dtype)


@of("span_loss")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_span_loss_and_gradient_are_those_of_the_vector(path: Path, dtype: torch.dtype) -> None:
    meta, tensors = LOADED[path]
    mask, ids = tensors["mask"].bool(), tensors["span_ids"]
    student = tensors["student_logits"].to(dtype).requires_grad_()
    teacher = tensors["teacher_logits"].to(dtype)
    distance = meta["hparams"]["distance"]
    loss = losses.span_kl(student, teacher, ids, distance=distance, mask=mask)
    agree(loss.detach(), tensors["expected_loss"], dtype)
    (gradient,) = torch.autograd.grad(loss, student)
    agree(gradient, tensors["expected_grad_student"], dtype)
    first, wide = pairs(ids, ids.shape, mask), torch.zeros(ids.shape, dtype=dtype)
    flat = [z.detach().flatten(0, 1) for z in (student, teacher)]
    joined = [torch.cat([z[first], z[first + 1]], -1) for z in flat]
    values = pair_values(*joined, distance=distance)
    each = wide.flatten().index_put((first,), values).view(ids.shape)[:, :-1]
    agree(each, tensors["expected_per_pair"], dtype)


@of("scrg_detect")
def test_the_detected_error_is_that_of_the_vector(path: Path) -> None:
    meta, tensors = LOADED[path]
    divergence = meta["hparams"]["divergence"]
    student, teacher = (tensors[f"{side}_logits"] for side in ("student", "teacher"))
    tokens, mask = tensors["student_tokens"], tensors["mask"].bool()
    scores = disagreement(student, teacher, tokens, divergence=divergence)
    differ = tensors["expected_teacher_tokens"] != tokens
    agree(scores[differ], tensors["expected_divergence"][differ], torch.float64)
    index = worst(scores.masked_fill(~mask, -torch.inf))
    assert torch.equal(index, tensors["expected_error_index"])
    rows = torch.arange(len(index))[index >= 0]
    replacement = teacher[rows, index[rows]].argmax(-1)
    assert torch.equal(replacement, tensors["expected_replacement"][rows])

"""Students trained with torchao's fake quantization; skipped where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kdlight import DistillationModule, PrunedCausalLM
from kdlight.callbacks import ExportStudent
from kdlight.models import Quantized
from kdlight.quantization import TorchAOQuantization
from tests.models.recipes.lora import differing
from tests.models.recipes.quantized import logits
from tests.support import toy

KINDS: dict[str, dict[str, Any]] = {
    "int4": {"bits": 4, "bucket": 8},
    "int8": {"bits": 8, "bucket": None},
}


def test_a_missing_torchao_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(ImportError, match=r"backend='torchao' needs .*'kdlight\[torchao\]'"):
        Quantized(bits=4, bucket=32, backend="torchao")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "points"}, "scheme must be 'uniform' with backend='torchao', got 'points'"),
        ({"bits": 2}, "bits must be one of 4, 8, got 2"),
        ({"bits": 8}, "bucket must be None for 8 bits of torchao"),
        ({"bits": 4, "bucket": None}, "bucket must be the size of a group"),
    ],
)
def test_arguments_that_torchao_does_not_offer(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Quantized(backend="torchao", **options)


def test_groups_that_do_not_fit_a_layer() -> None:
    pytest.importorskip("torchao")
    network = nn.Sequential(*[nn.Linear(10, 10) for _ in range(3)])
    with pytest.raises(ValueError, match="bucket=4 does not divide the 10 inputs of '1'"):
        Quantized(network, bits=4, bucket=4, backend="torchao").build()


def test_linear_layers_alone_are_quantized() -> None:
    pytest.importorskip("torchao")
    network = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    student = Quantized(network, bits=8, bucket=None, skip=[], backend="torchao").build()
    kinds = [any(isinstance(m, TorchAOQuantization) for m in layer.modules()) for layer in student]  # type: ignore[union-attr]
    assert kinds == [False, True, True]


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_is_trained_and_exported(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    from transformers import AutoModelForCausalLM

    recipe = Quantized(PrunedCausalLM(2), backend="torchao", **KINDS[kind])
    torch.manual_seed(5)
    module = DistillationModule(
        student=recipe,
        teacher=toy.llama(seed=2),
        objective=toy.mixture(),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.01),
    )
    before = {name: value.clone() for name, value in module.student.state_dict().items()}
    callback = ExportStudent(directory=str(tmp_path / "out"))
    toy.trainer(tmp_path, callbacks=[callback]).fit(module, toy.loader(8))
    after = dict(module.student.state_dict())
    assert {name for name in after if name.endswith(".original")} <= differing(before, after)
    student: Any = module.student
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(saved), logits(student.model))
    exported: Any = recipe.export(student)
    assert torch.equal(logits(exported.model), logits(student.model))
    weights = load_file(tmp_path / "out" / "model.safetensors")
    quantized = [name for name in weights if name.endswith("_proj.weight")]
    assert len(quantized) == 2 * 7
    size, most = KINDS[kind]["bucket"], 2 ** KINDS[kind]["bits"]
    for name in quantized:
        rows = weights[name].view(-1, size or weights[name].shape[1])
        if name != "model.layers.0.self_attn.q_proj.weight":  # the first linear layer is skipped
            assert max(len(row.unique()) for row in rows) <= most

"""Rotary frequencies stay those of the exported student, whoever casts the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from kdlight import CausalLM, DistillationModule, FrozenTeacher, PrunedCausalLM
from kdlight.callbacks import ExportStudent
from kdlight.models.rotary_frequencies import kept_frequencies
from kdlight.objectives import ForwardKL
from tests.models.tiny_models import SIZES, tiny, transformers
from tests.support.runs import trainer

LENGTH = 200


def llama() -> Any:
    config = transformers.LlamaConfig(**SIZES | {"max_position_embeddings": LENGTH})
    return transformers.LlamaForCausalLM(config).eval()


def frequencies(network: torch.nn.Module) -> torch.Tensor:
    return next(
        each for name, each in network.named_buffers() if name.endswith("rotary_emb.inv_freq")
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_cast_keeps_them(dtype: torch.dtype) -> None:
    exact = frequencies(llama())
    teacher: Any = FrozenTeacher(llama(), dtype=str(dtype).removeprefix("torch."))
    for cast in (CausalLM.wrap(llama()).to(dtype), teacher.model):
        assert next(cast.parameters()).dtype == dtype
        assert torch.equal(frequencies(cast), exact)
    rounded = frequencies(llama().to(dtype))
    assert not torch.equal(rounded.float(), exact)


def test_others_are_cast_as_usual() -> None:
    model = llama()
    with kept_frequencies(model):
        model.double()
    assert frequencies(model).dtype == torch.float64
    gpt = tiny("gpt2")
    with kept_frequencies(gpt):
        gpt.half()
    assert gpt.dtype == torch.float16


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [True, False])
def test_the_export_of_a_half_precision_run_is_what_was_trained(
    tmp_path: Path, wrapped: bool
) -> None:
    torch.manual_seed(1)
    ids = torch.randint(3, 31, (4, LENGTH))
    rows: Any = [{"input_ids": each, "labels": each} for each in ids]
    loader = DataLoader(rows, batch_size=2)
    student: Any = PrunedCausalLM(2) if wrapped else llama()
    module = DistillationModule(student, ForwardKL(), llama())
    callbacks = [ExportStudent(str(tmp_path / "out"))] if wrapped else []
    run = trainer(tmp_path, *callbacks, precision="bf16-true")
    run.fit(module, loader)
    if not wrapped:
        module.student.save_pretrained(tmp_path / "out")  # type: ignore[operator]
    exported = CausalLM(str(tmp_path / "out"), dtype="auto").eval()
    assert next(exported.parameters()).dtype == torch.bfloat16
    batch = {"input_ids": ids}
    with torch.no_grad():
        ours = module.student.eval()
        logits = ours(batch).logits() if wrapped else ours(**batch).logits
        assert torch.equal(exported(batch).logits(), logits)

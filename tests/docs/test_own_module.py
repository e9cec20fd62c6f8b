"""The loops of own_module.md train to the weights of a DistillationModule."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader

from kdlight import DistillationModule
from kdlight.objectives import ForwardKL
from tests.site.texts import PAGES, ROOT

TEXT = (ROOT / PAGES / "own_module.md").read_text("utf-8")
LOOPS = [
    block
    for block in re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    if "GradientNormalizer" in block
]


def automatic(shown: dict[str, Any], folder: Path, **options: Any) -> torch.Tensor:
    """Train the networks of a loop with a DistillationModule, and return the student's weights."""
    student, teacher = shown["networks"]()
    module = DistillationModule(
        student,
        ForwardKL(temperature=2.0),
        teacher,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.5),
        **options,
    )
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=1,
        accumulate_grad_batches=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(shown["micro_batches"](), batch_size=None))
    assert trainer.global_step == 4
    return parameters_to_vector(student.parameters()).detach()


def test_there_is_one_for_lightning_and_one_for_pytorch() -> None:
    assert ["LightningModule" in loop for loop in LOOPS] == [True, False]


@pytest.mark.filterwarnings("ignore::UserWarning")  # no validation data, no workers
@pytest.mark.parametrize("loop", LOOPS, ids=["lightning", "pytorch"])
def test_a_loop_trains_to_the_weights_of_a_module(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("own_module")
    monkeypatch.setitem(sys.modules, "own_module", module)
    exec(compile(loop, "own_module.md", "exec"), vars(module))
    shown = vars(module)
    tokens = [batch["input_ids"][:, 1:].numel() for batch in shown["micro_batches"]()]
    assert all(one != other for one, other in zip(tokens[::2], tokens[1::2], strict=True))
    weights = parameters_to_vector(shown["student"].parameters()).detach()
    start = parameters_to_vector(shown["networks"]()[0].parameters()).detach()
    assert (weights - start).abs().max() > 1e-2
    torch.testing.assert_close(weights, automatic(shown, tmp_path), rtol=1e-6, atol=1e-6)
    local = automatic(shown, tmp_path, normalization="local")
    assert (weights - local).abs().max() > 1e-4  # it is not the mean of the means

"""Vectors of the authors' code, see tests/conformance/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "conformance" / "quant_distill"
NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def load(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a vector and its hyper-parameters."""
    with safe_open(str(FOLDER / f"{name}.safetensors"), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["meta"])["hparams"]

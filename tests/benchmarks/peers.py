"""Peer libraries' losses, where they are installed; ``missing`` says why not.

``make peers`` installs TRL and Liger in an environment of their own, over that of the project.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

PEERS: dict[str, dict[str, Loss]] = {}
missing: dict[str, str] = {}


def _trl() -> dict[str, Loss]:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    jsd = import_module("trl.experimental.gkd").GKDTrainer.generalized_jsd_loss

    def loss(student: Tensor, teacher: Tensor, labels: Tensor, *, beta: float) -> Tensor:
        return jsd(student.unsqueeze(0), teacher.unsqueeze(0), labels.unsqueeze(0), beta=beta)

    named = {"forward_kl": 0.0, "jensen_shannon": 0.5, "reverse_kl": 1.0}
    return {name: partial(loss, beta=beta) for name, beta in named.items()}


def _torchtune() -> dict[str, Loss]:
    module = import_module("torchtune.modules.loss")
    named = {"forward_kl": "ForwardKLLoss", "reverse_kl": "ReverseKLLoss"}
    named["symmetric_kl"] = "SymmetricKLLoss"
    return {name: getattr(module, kind)() for name, kind in named.items() if hasattr(module, kind)}


def _liger() -> dict[str, Loss]:
    fused = import_module("liger_kernel.chunked_loss.jsd_loss").LigerFusedLinearJSDFunction

    def loss(student: Tensor, teacher: Tensor, labels: Tensor, *, beta: float) -> Tensor:
        return fused.distillation_loss_fn(student, teacher, beta=beta) / len(student)

    named = {"forward_kl": 0.0, "jensen_shannon": 0.5, "reverse_kl": 1.0}
    return {name: partial(loss, beta=beta) for name, beta in named.items()}


def _trl_chunked() -> dict[str, Loss]:
    import_module("trl.kernels.chunked_divergence")
    return {}  # it starts from hidden states, see fused_peers.py


def _load(name: str, found: Callable[[], dict[str, Any]]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PEERS[name] = found()
    except Exception as error:  # an installed peer may be broken in as many ways as it likes
        missing[name] = f"{type(error).__name__}: {error}"


_load("trl", _trl)
_load("trl chunked", _trl_chunked)
_load("torchtune", _torchtune)
_load("liger", _liger)

"""The networks of a run, as it begins: their modes, and what a first batch tells of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from kdlight.distributed.whole import keeps_networks_whole
from kdlight.models import CausalLM, TransformersModel
from kdlight.models.left_padding import warn_about_left_padding
from kdlight.models.model_kind import is_transformers_model, outermost_models


def set_train_mode(network: nn.Module) -> None:
    """Set train mode: models of transformers are created in evaluation mode, without dropout.

    This includes models within a wrapper. Those that are not trained stay in evaluation mode.

    Example:
        >>> network = nn.Sequential(nn.Dropout()).eval()
        >>> set_train_mode(network)
        >>> network[0].training
        True
    """
    models = list(outermost_models(network))
    frozen = [each for each in models if not each.training and not _is_trained(each)]
    for part in (network, *models):
        if not part.training and part not in frozen:
            part.train()
    for part in frozen:
        part.eval()


def whole_networks(module: Any) -> list[nn.Module]:
    """Return the networks that run by themselves, which a part of a sharded one does not.

    Args:
        module: a `kdlight.modules.DistillationBase` with its trainer.
    """
    if not keeps_networks_whole(module.trainer.strategy):
        return []
    teacher = module.frozen_teacher
    networks = [network for network, _ in module.learners().values()]
    return networks + ([] if teacher is None else teacher.networks())


def compare_at_next_batch(networks: Iterable[nn.Module]) -> None:
    """Let wrappers compare themselves with the models that they wrap, at their next batch."""
    for network in networks:
        for part in network.modules():
            if isinstance(part, CausalLM):
                part.compare_next = True


def warn_about_padding(networks: Iterable[nn.Module], batch: Any) -> None:
    """Warn about models, other than those in a `kdlight.CausalLM`, that read left padding."""
    for network in networks:
        if is_transformers_model(network) or isinstance(network, TransformersModel):
            warn_about_left_padding(network, batch)


def _is_trained(network: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in network.parameters())

"""A step of the optimizer of a ratio network."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer

from kdlight.distributed.ranks import data_parallel_sum
from kdlight.modules.guards import NonFiniteLossError
from kdlight.objectives.fusion.ratio_network import RatioNetwork


def step_ratio(
    trainer: Trainer, network: RatioNetwork, optimizer: Optimizer, features: Tensor, slopes: Tensor
) -> None:
    """Take a step with the gradient of the sum of ``slopes`` times ratios, over all ranks.

    Args:
        trainer: the trainer.
        network: the network, whose parameters require no gradient before and after.
        optimizer: the optimizer of its parameters.
        features: the input of the network, ``(n, F)``.
        slopes: the derivative of what is minimized in the ratio of each row, ``(n,)``.

    Raises:
        NonFiniteLossError: The gradient is not finite; nothing has changed.

    Example:
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> network, row = RatioNetwork(2), torch.ones(1, 2)
        >>> before = network(row)
        >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        >>> step_ratio(trainer, network, optimizer, row, torch.tensor([-1.0]))
        >>> network(row) > before
        tensor([True])
    """
    parameters = list(network.parameters())
    network.requires_grad_(True)
    try:
        with torch.enable_grad():
            ratio = network(features)
            found = torch.autograd.grad(ratio, parameters, slopes.to(ratio.dtype))
    finally:
        network.requires_grad_(False)
    # one exchange; all ranks get the same bits, so their networks stay equal
    total = data_parallel_sum(trainer, torch.cat([each.flatten() for each in found]))
    if not bool(total.isfinite().all()):
        raise NonFiniteLossError(
            f"the gradient of the ratio in optimizer step {trainer.global_step} is not finite;"
            " check the batch, and logits that are -inf for the student or the teacher only (an"
            " infinite divergence)"
        )
    parts = total.split([each.numel() for each in found])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)
    optimizer.step()
    optimizer.zero_grad()

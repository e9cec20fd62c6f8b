"""FSDP2 as a strategy that a config can name."""

from __future__ import annotations

import os
from datetime import timedelta

from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.constants import default_pg_timeout


class FSDP2Strategy(ModelParallelStrategy):
    """Lightning's `ModelParallelStrategy`, data-parallel over all devices by default.

    By default that strategy makes all devices of a node one tensor-parallel group, so that a config
    has to state their number to change it. The `kdlight.DistillationModule` decides what it shards.

    Args:
        tensor_parallel_size: number of ranks that work on the same batch, divide the linear layers
            of the student among them, see `kdlight.distributed.sharding.shard`, and the tokens of a
            loss, see ``row_group`` of `kdlight.LossInputs`.
        save_distributed_checkpoint: whether each rank writes its own part of a checkpoint to a
            folder; False gathers the checkpoint into a single file.
        process_group_backend: a backend such as ``"nccl"``; None chooses it by the device.
        timeout: the time that a collective may take.
        divide_head: divide the vocabulary of the student's output head among the tensor-parallel
            ranks, too, so that each has a part of its weight, gradient and optimizer state. Logits
            are exchanged between the ranks instead. The tensor-parallel plan of the network must
            name the head, which must not be tied to the embedding.

    Raises:
        ValueError: the number of ranks is not a multiple of ``tensor_parallel_size``; or
            ``tensor_parallel_size`` is above 1 without `lightning.pytorch.seed_everything`, as the
            ranks of a group must have the same initial weights and the same dropout; or it is 1
            with ``divide_head``.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(accelerator="cpu", devices=2, strategy=FSDP2Strategy())
    """

    def __init__(
        self,
        tensor_parallel_size: int = 1,
        save_distributed_checkpoint: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta = default_pg_timeout,
        divide_head: bool = False,
    ) -> None:
        if divide_head and tensor_parallel_size == 1:
            raise ValueError(
                "divide_head=True divides the head among tensor-parallel ranks, but"
                " tensor_parallel_size=1; set it to the number of ranks, or divide_head=False"
            )
        self.divide_head = bool(divide_head)
        super().__init__(
            tensor_parallel_size=tensor_parallel_size,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def setup_environment(self) -> None:
        """Set the number of data-parallel ranks before the mesh is created."""
        ranks, group = self.num_nodes * self.num_processes, self._tensor_parallel_size
        assert isinstance(group, int)
        if group < 1 or ranks % group:
            raise ValueError(
                f"tensor_parallel_size={group} does not divide the {ranks} ranks of this run"
                f" ({self.num_nodes} nodes with {self.num_processes} devices each)"
            )
        if group > 1 and "PL_GLOBAL_SEED" not in os.environ:
            raise ValueError(
                f"tensor_parallel_size={group} ranks work on the same batch and must draw the same"
                " random numbers: set seed_everything in the config, or call"
                " lightning.pytorch.seed_everything(0) before the model is made"
            )
        self._data_parallel_size = ranks // group
        super().setup_environment()

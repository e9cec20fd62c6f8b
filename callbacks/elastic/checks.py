"""What training sub-networks by turns needs of a run, checked before it starts."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch.nn.utils.parametrize import is_parametrized

from kdlight.distributed.whole import keeps_networks_whole
from kdlight.features import find_module
from kdlight.models.model_kind import model_kind, wrapped_model
from kdlight.models.pruning.layer_pruning import choose_layers
from kdlight.models.pruning.sub_network import SubNetworks
from kdlight.models.shortcut_layers import ShortcutLayer
from kdlight.modules import DistillationMixin, DistillationModule
from kdlight.modules.base import DistillationBase
from kdlight.objectives.features.feature_objective import feature_paths


def find_sub_networks(module: LightningModule) -> SubNetworks:
    """Return the sub-networks of the student.

    Raises:
        ValueError: The module trains several networks, or its student is not one causal language
            model of transformers; it has adapters, quantized weights or shortcuts, or is compiled.

    Example:
        >>> find_sub_networks(LightningModule())
        Traceback (most recent call last):
        ValueError: ElasticDepth needs a kdlight.DistillationModule or a module with the ...
    """
    if not isinstance(module, (DistillationModule, DistillationMixin)):
        raise ValueError(
            "ElasticDepth needs a kdlight.DistillationModule or a module with the"
            f" kdlight.DistillationMixin, which train one student, got {type(module).__name__}"
        )
    student: Any = module.student_network()
    model = wrapped_model(student)
    if model is None or model_kind(student).labels != "causal":
        raise ValueError(
            "ElasticDepth needs a student that is one causal language model of transformers, such"
            f" as a kdlight.CausalLM, got {type(student).__name__}"
        )
    if any(hasattr(part, "peft_config") for part in student.modules()):
        raise ValueError(
            "ElasticDepth trains and prunes whole layers, but the student has adapters; use a"
            " student without them, such as kdlight.PrunedCausalLM"
        )
    for part in student.modules():
        if isinstance(part, ShortcutLayer) or is_parametrized(part):
            made_by = "DepthShortcut" if isinstance(part, ShortcutLayer) else "Quantized"
            raise ValueError(
                "ElasticDepth compares sub-networks with pruned copies, which the student of a"
                f" kdlight.models.{made_by} does not have; use a plain student, such as a"
                " kdlight.PrunedCausalLM, and the other recipe on the sub-network afterwards"
            )
    marks = ("_compiled_call_impl", "_compiler_ctx", "_orig_mod")
    for part in (module, *student.modules()):
        if any(getattr(part, mark, None) is not None for mark in marks):
            raise ValueError(
                f"ElasticDepth changes which layers run, but {type(part).__name__} is compiled; use"
                " it without torch.compile"
            )
    return SubNetworks(model)


def check_depths(depth: int, smallest: int, *, random: int) -> None:
    """Raise a ValueError where a student has too few layers to train at several depths.

    Args:
        depth: number of layers of the student.
        smallest: the smallest number of layers to train.
        random: number of random depths in between.

    Example:
        >>> check_depths(4, 4, random=0)
        Traceback (most recent call last):
        ValueError: min_layers must be below the 4 layers of the student, got 4
    """
    if smallest >= depth:
        raise ValueError(
            f"min_layers must be below the {depth} layers of the student, got {smallest}"
        )
    between = depth - smallest - 1
    if random > between:
        raise ValueError(
            f"random={random} depths cannot be drawn from the {between} between"
            f" min_layers={smallest} and the {depth} layers of the student; set random to {between}"
            " or less, and accumulate_grad_batches to 2 + random"
        )


def check_accumulation(trainer: Trainer, count: int) -> None:
    """Raise a ValueError unless an optimizer step has ``count`` micro-batches.

    Example:
        >>> trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
        >>> check_accumulation(trainer, 4)
        Traceback (most recent call last):
        ValueError: ElasticDepth(random=2) trains 4 sub-networks in an optimizer step, each on a ...
    """
    scheduled = any(isinstance(each, GradientAccumulationScheduler) for each in trainer.callbacks)  # type: ignore[attr-defined]
    if scheduled or trainer.accumulate_grad_batches != count:
        got = "a GradientAccumulationScheduler" if scheduled else trainer.accumulate_grad_batches
        raise ValueError(
            f"ElasticDepth(random={count - 2}) trains {count} sub-networks in an optimizer step,"
            f" each on a micro-batch; set accumulate_grad_batches={count} of the Trainer, got {got}"
        )


def check_strategy(trainer: Trainer) -> None:
    """Raise a ValueError under a strategy that needs all layers in every forward pass.

    Example:
        >>> from lightning.pytorch.strategies import DDPStrategy
        >>> strategy = DDPStrategy(static_graph=True)
        >>> trainer = Trainer(logger=False, accelerator="cpu", strategy=strategy,
        ...                   enable_checkpointing=False)
        >>> check_strategy(trainer)
        Traceback (most recent call last):
        ValueError: ElasticDepth runs other layers in each micro-batch, but static_graph=True of ...
    """
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy) and strategy._ddp_kwargs.get("static_graph"):
        raise ValueError(
            "ElasticDepth runs other layers in each micro-batch, but static_graph=True of the"
            " DDPStrategy promises the same ones; set static_graph=False"
        )
    if not keeps_networks_whole(strategy) and not isinstance(strategy, ModelParallelStrategy):
        raise ValueError(
            f"ElasticDepth cannot leave out layers under {type(strategy).__name__}, which flattens"
            " parameters or owns the gradients; use DDP, or kdlight.distributed.FSDP2Strategy"
        )


def check_features(module: DistillationBase, networks: SubNetworks, smallest: int) -> None:
    """Raise a ValueError where the objective compares a layer that a sub-network does not have."""
    largest = networks.depth
    for path in feature_paths(module.objective)[0]:
        found = find_module(module.feature_network(), path)
        of = (
            i for i, layer in enumerate(networks.layers) if any(m is found for m in layer.modules())
        )
        index = next(of, None)
        for depth in range(smallest, largest):
            kept = choose_layers(depth, depth=largest)
            if index is not None and index not in kept:
                raise ValueError(
                    f"the objective compares the feature {path!r} of layer {index}, but the"
                    f" sub-network of {depth} layers has the layers {kept}; compare the first or"
                    " the last layer, which all of 2 layers or more have, or raise min_layers"
                )

"""Short fits whose objectives compare features, on one process or several.

`fit` runs one fit in this process. As a script it runs several, one after the other, on ranks that
Lightning starts, like `tests.support.split_fit`.
"""

from __future__ import annotations

import warnings
from functools import cache, partial
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from kdlight import CausalLM, DistillationMixin, DistillationModule, FrozenTeacher
from kdlight.data.targets import batch_labels
from kdlight.distributed import FSDP2Strategy
from kdlight.features import LayerMapping
from kdlight.objectives import (
    AttentionRelation,
    CrossEntropy,
    ForwardKL,
    HiddenStates,
    Objective,
    SimilarityPreserving,
    Weighted,
)
from tests.support import rank_scripts, toy
from tests.support.split_fit import Options, Result, Watch, full_tensor

LAYERS = LayerMapping("layers.*")


def _with_logits(term: Objective) -> Objective:
    return Weighted({"kd": ForwardKL(), "features": term}, weights={"features": 0.5})


def _inside() -> Objective:
    return HiddenStates({"layers.0.self_attn.q_proj": "layers.1.self_attn.q_proj"})


def _relation() -> Objective:
    return AttentionRelation({"layers.0.self_attn": "layers.3.self_attn"}, heads=2, causal=True)


OBJECTIVES: dict[str, Any] = {
    "layers": lambda: HiddenStates(LAYERS),
    "layers and logits": lambda: _with_logits(HiddenStates(LAYERS)),
    "first layer": lambda: HiddenStates({"layers.0": "layers.1"}),
    "first layer and logits": lambda: _with_logits(HiddenStates({"layers.0": "layers.1"})),
    "inside": _inside,
    "inside and logits": lambda: _with_logits(_inside()),
    "inside the last layer": lambda: HiddenStates({"layers.1.self_attn": "layers.3.self_attn"}),
    "input": lambda: HiddenStates({"layers.1:input": "layers.2"}),
    "embedding": lambda: HiddenStates({"embed_tokens": "embed_tokens"}),
    "norm": lambda: HiddenStates({"norm": "norm"}),
    "relation": _relation,
    "relation and logits": lambda: _with_logits(_relation()),
    "batch": lambda: SimilarityPreserving({"norm": "norm"}),
    "labels and layers": lambda: Weighted({"ce": CrossEntropy(), "features": HiddenStates(LAYERS)}),
}


def llama(width: int = 8, *, layers: int = 2, seed: int = 0, exact: bool = True) -> nn.Module:
    """Return a language model of transformers.

    Args:
        width: the hidden size.
        layers: the number of layers.
        seed: of the weights.
        exact: compute norms in the dtype of the model; transformers does so in float32.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=toy.VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        eos_token_id=0,
        bos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    for name, module in list(model.named_modules()) if exact else ():
        if type(module).__name__ == "LlamaRMSNorm":
            model.set_submodule(name, nn.RMSNorm(width, eps=config.rms_norm_eps))
    return model


def checkpoint(model: Any, *, use_reentrant: bool) -> None:
    """Turn on gradient checkpointing, which transformers is about to rename."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})


def module(objective: Objective, options: Options | None = None) -> Any:
    """Return a `DistillationModule` of a student of two layers and a teacher of four.

    Its optimizer is SGD, whose steps show the size of gradients.
    """
    given = options or {}
    dtype = getattr(torch, given.get("dtype", "float64"))
    student = CausalLM.wrap(llama(seed=1)).to(dtype)
    if "checkpointing" in given:
        checkpoint(student.model, use_reentrant=given["checkpointing"])
    teacher = CausalLM.wrap(llama(16, layers=4, seed=2)).to(dtype)
    torch.manual_seed(3)  # of the projectors
    made = DistillationModule(
        student=student,
        teacher=FrozenTeacher(teacher, **given.get("teacher", {})),
        objective=objective,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    )
    made.objective.to(dtype)
    return made


class OneStep(toy.OwnModule):
    """A module that does not know kdlight; its training step returns the logits, too."""

    passes = 1

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        labels = batch_labels(batch)
        assert labels is not None
        logits = self.student(batch).logits()
        total = nn.functional.cross_entropy(
            logits.flatten(0, -2), labels.flatten(), reduction="sum"
        )
        loss = total / (labels != -100).sum().clamp(min=1)
        return {"loss": loss, "logits": logits} if self.passes == 1 else loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("mean_logit", self.student(batch).logits().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Mixed(DistillationMixin, OneStep):
    def student_logits(self, batch: Any) -> Any:
        return self.student(batch)


def mixed(objective: Objective, *, passes: int = 1, task_weight: float = 0.3) -> Mixed:
    """Return the mixin with the networks of `module`, and one or two passes of the student."""
    made = Mixed(CausalLM.wrap(llama(seed=1)).double())
    made.passes = passes
    teacher = CausalLM.wrap(llama(16, layers=4, seed=2)).double()
    torch.manual_seed(3)
    made.distill(objective, FrozenTeacher(teacher), task_weight=task_weight)
    made.objective.double()
    return made


def fit(options: Options) -> Result:
    """Run one fit."""
    if options.get("ranks", 1) > 1:
        seed_everything(0, verbose=False)
    torch.manual_seed(0)
    watch = Watch()
    strategy: Any = options.get("strategy")
    if strategy == "fsdp2":
        strategy = FSDP2Strategy(tensor_parallel_size=options.get("tensor_parallel", 1))
    trainer = Trainer(
        accelerator="cpu",
        devices=options.get("ranks", 1),
        strategy=strategy or "auto",
        precision=options.get("precision", "32-true"),
        accumulate_grad_batches=options.get("accumulate", 1),
        gradient_clip_val=options.get("clip"),
        max_epochs=1,
        num_sanity_val_steps=options.get("sanity", 0),
        limit_val_batches=options.get("validate", 0),
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
    )
    objective = OBJECTIVES[options["objective"]]()
    mixin = options.get("mixin")  # arguments of `mixed`, for the mixin instead of a module
    run: Any = module(objective, options) if mixin is None else mixed(objective, **mixin)
    data = toy.RaggedModule(options.get("batch_size", 8), count=24)
    trainer.fit(run, data)
    parameters = {
        name: full_tensor(value).detach().clone()
        for part in (run.student, run.objective)
        for name, value in part.named_parameters()
    }
    return {"parameters": parameters, "losses": watch.losses, "seen": watch.seen}


@cache
def one_process(objective: str) -> Result:
    """Return the fit of one process with whole batches."""
    with isolate_rng():
        return fit({"objective": objective})


fit_on_ranks = partial(rank_scripts.fit_on_ranks, "tests.support.feature_fit", timeout=300)


if __name__ == "__main__":
    rank_scripts.fit_as_rank(fit, (ValueError, RuntimeError, AttributeError))

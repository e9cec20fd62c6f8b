"""A student of which only low-rank adapters learn (LoRA)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.models.causal_lm import CausalLM
from kdlight.models.pruned import prune_layers
from kdlight.models.pretrained import parse_dtype
from kdlight.models.recipe import StudentRecipe, find_base


class LoRACausalLM(StudentRecipe):
    r"""The recipe of a student that keeps its weights and learns low-rank adapters beside them.

    .. math:: W' = W + \frac{alpha}{r} B A, \qquad A \in R^{r \times in}, B \in R^{out \times r}

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021, eq. (3); by the package
    peft. Choose it where the optimizer's states for a whole student do not fit, or where many
    students share one base. A new student answers as its base does, since B begins at zero; so
    without ``source`` and ``layers``, which copies the teacher whole, it begins at its teacher.

    Checkpoints of the run hold the frozen weights too, and so need nothing else to be exported.

    Args:
        source: the model to adapt, when it is not the teacher, spelled as for `kdlight.CausalLM`.
        layers: adapt a model cut to these layers, or to as many, see `kdlight.PrunedCausalLM`; None
            keeps all.
        gguf_file: name of a GGUF file inside ``source``.
        dtype: of the frozen weights. The adapters are in float32 whatever it is.
        r: rank of an adapter.
        alpha: its strength; what it adds is multiplied by ``alpha / r``.
        dropout: of what the adapters read, in training.
        target_modules: names of the layers to adapt, such as ``["q_proj", "v_proj"]``, or a regular
            expression; by default every linear layer but the output head.

    Raises:
        ImportError: peft is not installed.
        ValueError: a number outside its range.

    Example:
        >>> LoRACausalLM("some/model", r=4)
        LoRACausalLM(source='some/model', r=4)
    """

    def __init__(
        self,
        source: str | None = None,
        *,
        layers: int | list[int] | None = None,
        gguf_file: str | None = None,
        dtype: str = "float32",
        r: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        target_modules: str | list[str] = "all-linear",
    ) -> None:
        if find_spec("peft") is None:
            raise ImportError("LoRACausalLM needs the package peft: pip install 'kdlight[peft]'")
        if r < 1:
            raise ValueError(f"r must be at least 1, got {r}")
        if not alpha > 0:
            raise ValueError(f"alpha must be above 0, got {alpha}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.source = source
        self.layers = layers
        self.gguf_file = gguf_file
        self.dtype = dtype
        self.r, self.alpha, self.dropout = r, alpha, dropout
        self.target_modules = target_modules

    def __repr__(self) -> str:
        given = {"source": self.source, "layers": self.layers, "r": self.r}
        inner = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        return f"{type(self).__name__}({inner})"

    def build(self, teacher: Any = None) -> AdaptedCausalLM:
        """Adapt a copy of ``teacher``, or of ``source`` if there is one.

        Args:
            teacher: a `CausalLM` or the Hugging Face model in it; it is left as it is.

        Raises:
            TypeError: there is no ``source``, and the teacher is not a causal language model.
            ValueError: ``layers`` or ``target_modules`` do not fit.
        """
        from peft import LoraConfig, TaskType, get_peft_model

        base = find_base(self, teacher)
        if self.layers is not None:
            base = prune_layers(base, self.layers, dtype=self.dtype)
        elif self.source is None:
            base = copy.deepcopy(base).to(parse_dtype(self.dtype))
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.r,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=self.target_modules,
        )
        student = AdaptedCausalLM.wrap(get_peft_model(base, config))
        assert isinstance(student, AdaptedCausalLM)
        return student


class AdaptedCausalLM(CausalLM):
    """A causal language model with adapters of peft; `LoRACausalLM` builds it."""

    def _adopt(self, model: Any) -> None:
        # the loss applies the head by itself, and where input and output share their weights, an
        # adapter of the one would be merged into the other
        for name, get in (("output", "get_output_embeddings"), ("input", "get_input_embeddings")):
            if hasattr(getattr(model, get)(), "base_layer"):
                raise ValueError(
                    f"target_modules includes the {name} embeddings, which stay as they are;"
                    " name layers between the two"
                )
        super()._adopt(model)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        tokenizer: Any = None,
        state_dict: Mapping[str, Tensor] | None = None,
        adapter_only: bool = False,
    ) -> None:
        """Write a folder that ``AutoModelForCausalLM`` reads without kdlight and peft.

        Args:
            folder: where to; it is made.
            tokenizer: to be saved beside it.
            state_dict: weights to save in place of this module's own, under the same names: those
                of a module that is sharded, gathered.
            adapter_only: save the adapters alone, a few megabytes that
                ``peft.PeftModel.from_pretrained(base, folder)`` puts on the model they began from.
        """
        if not adapter_only:
            CausalLM.wrap(self._merge(state_dict)).save_pretrained(folder, tokenizer=tokenizer)
            return
        # the embeddings are not adapted, and peft would ask the hub whether they have grown
        self.model.save_pretrained(
            folder, state_dict=self._weights(state_dict), save_embedding_layers=False
        )
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)

    def _weights(self, state_dict: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        if state_dict is None:
            return self.model.state_dict()
        return {name.removeprefix("model."): value for name, value in state_dict.items()}

    def _merge(self, state_dict: Mapping[str, Tensor] | None) -> nn.Module:
        """A model with the adapters in its weights; this one, which may be sharded, is left."""
        from peft import get_peft_model

        base, config = self.model.get_base_model(), copy.deepcopy(self.model.peft_config["default"])
        with torch.random.fork_rng(devices=[]):  # the random first weights are overwritten below
            whole = type(base)(copy.deepcopy(base.config)).to(base.dtype)
            whole.generation_config = copy.deepcopy(base.generation_config)
            adapted = get_peft_model(whole, config)
        weights = self._weights(state_dict)
        missing, unexpected = adapted.load_state_dict(weights, strict=False)
        # what is tied may have been gathered under one of its names
        assert not unexpected, unexpected
        assert set(missing) <= _shared(adapted), missing
        return adapted.merge_and_unload()


def _shared(model: nn.Module) -> set[str]:
    """Names of the weights that a model holds under several names."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for each in names.values() if len(each) > 1 for name in each}

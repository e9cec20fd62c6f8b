"""A student that is its teacher with shortcuts around its layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kdlight.checks import check_integer, check_type
from kdlight.models.causal_lm import CausalLM
from kdlight.models.model_kind import model_kind, wrapped_model
from kdlight.models.pruning.layer_list import layer_list
from kdlight.models.recipes.student_recipe import StudentRecipe, build_base
from kdlight.models.shortcut_layers import ShortcutCausalLM, ShortcutLayer


class DepthShortcut(StudentRecipe):
    r"""The recipe of a student whose frozen layers each have a trainable shortcut around them.

    .. math:: h_l = w_l\, g_l(h_{l-1}) + (1 - w_l)\, f_l(h_{l-1}), \qquad
              w_l = \sigma(router_l(h_{l-1}))

    Wang, Wang et al., "System-1.5 Reasoning: Traversal in Language and Latent Spaces with Dynamic
    Shortcuts", 2025: the depth shortcut, with a weight per token. f are the layers of the teacher,
    g small adapters. With all w at 0 the student is its teacher, so that a copy of the network at
    full depth teaches the one that takes shortcuts. The adapter with a residual connection, the
    initial values and the soft mixture in evaluation are choices of this implementation; shortcuts
    over steps are not part of it. Layers are computed also where w is close to 1: the student shows
    which depth a token needs, and saves no time.

    Only routers and adapters are trained. Nothing but ``extra_loss`` raises w, see
    `kdlight.models.shortcut_layers.ShortcutCausalLM.mean_weight`. The student cannot be exported
    (no architecture of transformers has shortcuts); its weights are in the checkpoints.

    Args:
        base: what the layers are from: None for a copy of the teacher, a network, or another
            recipe.
        bottleneck: width of an adapter.
        initial_weight: w of all tokens in the beginning, above 0 and below 1.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a number is outside its range.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=9, n_embd=8, n_layer=1, n_head=1)
        >>> student = DepthShortcut(bottleneck=2).build(CausalLM.wrap(GPT2LMHeadModel(config)))
        >>> sum(p.numel() for p in student.parameters() if p.requires_grad)
        51
    """

    shown = ("base", "bottleneck", "initial_weight")

    def __init__(
        self,
        base: StudentRecipe | nn.Module | None = None,
        *,
        bottleneck: int = 16,
        initial_weight: float = 0.01,
    ) -> None:
        check_type("base", base, (StudentRecipe, nn.Module, type(None)), "a recipe or a network")
        check_integer("bottleneck", bottleneck, 1)
        check_type("initial_weight", initial_weight, (int, float), "a number")
        if not 0 < initial_weight < 1:
            raise ValueError(
                f"initial_weight must be above 0 and below 1, got {initial_weight}; with 0 or 1 the"
                " routers would not learn"
            )
        self.base, self.bottleneck, self.initial_weight = base, bottleneck, initial_weight

    def build(self, teacher: nn.Module | None = None) -> ShortcutCausalLM:
        """Add shortcuts to a copy of ``teacher``, or to the base.

        Raises:
            TypeError: If that is not one causal language model of transformers.
            ValueError: If its layers are not one list, or there is neither a base nor a teacher.
        """
        network: Any = build_base(self.base, teacher)
        model = wrapped_model(network)
        if model is None or model_kind(network).labels != "causal":
            raise TypeError(
                f"{self!r} adds shortcuts to the layers of a causal language model of transformers,"
                f" such as a kdlight.CausalLM, got a {type(network).__name__}; set base to one"
            )
        layers: Any = model.get_submodule(layer_list(model))
        network.requires_grad_(False)
        weight = model.get_input_embeddings().weight
        for index, layer in enumerate(layers):
            shortcut = ShortcutLayer(
                layer,
                width=model.config.get_text_config().hidden_size,
                bottleneck=self.bottleneck,
                initial_weight=self.initial_weight,
            )
            # float64 for float64; half-precision weights would lose small updates
            dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
            for part in (shortcut.router, shortcut.down, shortcut.up):
                part.to(weight.device, dtype)
            layers[index] = shortcut
        language_model = network if isinstance(network, CausalLM) else CausalLM.wrap(model)
        return ShortcutCausalLM(language_model).train()

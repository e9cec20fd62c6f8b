"""The loss of the routers of a mixture of experts, which is no part of an objective."""

from __future__ import annotations

from torch import nn

from kdlight.models.model_kind import base_model, outermost_models


def warn_about_router_loss(network: nn.Module) -> None:
    """Warn if a model of transformers in ``network`` is asked for the loss of its routers.

    With ``output_router_logits=True`` in its config, a mixture of experts adds a term to its own
    loss that spreads tokens over the experts. Objectives are functions of logits and do not have
    this term.

    Example:
        >>> warn_about_router_loss(nn.Linear(2, 3))
    """
    for model in outermost_models(network):
        config = base_model(model).config.get_text_config()
        weight = getattr(config, "router_aux_loss_coef", None)
        if getattr(config, "output_router_logits", False) and weight != 0:
            # Lightning takes seconds to import
            from lightning.pytorch.utilities import rank_zero_warn

            rank_zero_warn(
                f"kdlight: {type(base_model(model)).__name__} has output_router_logits=True, which"
                " adds the loss of its routers to the loss of the model itself. It is no part of"
                " the objective: return it from extra_loss(batch), such as"
                " `weight * self.student(**batch).aux_loss`, or set output_router_logits=False"
            )

"""How a language model computes logits from its last hidden states, found by a test run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdlight.models.evaluating import evaluating
from kdlight.models.model_inputs import input_names
from kdlight.models.model_kind import base_model, model_kind

LARGE = 6e4
"""A logit beyond any soft-cap that float16 can represent."""


@dataclass(frozen=True)
class Rescale:
    r"""The function that some models apply to each logit after the head: :math:`c \tanh(s z / c)`.

    Args:
        scale: s, as in Cohere and Granite.
        cap: c, as in Gemma 2; None for no soft-cap.

    Example:
        >>> Rescale(scale=0.5, cap=30.0)(torch.tensor([0.0, 1e6]))
        tensor([ 0., 30.])
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Return rescaled logits of the same shape."""
        logits = logits if self.scale == 1 else logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


@dataclass(frozen=True)
class OutputHead:
    """How a model computes logits from its last hidden states.

    Attributes:
        gives_logits: whether logits are the output head, followed by ``transform``, of the last
            hidden states, and nothing else.
        transform: the function of each logit after the head; None for the identity.
    """

    gives_logits: bool
    transform: Rescale | None = None


@torch.no_grad()
def probe_output_head(model: Any) -> OutputHead:
    """Find out how a Hugging Face model computes logits from its last hidden states.

    The config does not tell: names for soft-caps and scales differ between architectures. Instead
    the model runs on two tokens with the output of its head replaced by known numbers. The
    resulting logits are compared with what each known transform makes of these numbers. A model
    that does not run on tokens alone computes its logits itself.
    """
    head = model.get_output_embeddings()
    adapter = getattr(model, "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):  # which adds tokens before the body
        return OutputHead(gives_logits=False)
    if head is None or model_kind(model).labels in ("aligned", "none"):  # no decoder
        return OutputHead(gives_logits=False)
    recorded: dict[str, Any] = {}

    def record_hidden_states(module: nn.Module, args: Any, output: Any) -> None:
        recorded["hidden"] = getattr(output, "last_hidden_state", None)

    def replace_output(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        recorded["input"] = args[0]
        numbers = torch.linspace(-64, 64, output.shape[-1]).to(output)
        numbers[..., -1] = LARGE
        recorded["output"] = numbers.expand_as(output)
        return recorded["output"]

    hooks = (
        model.get_decoder().register_forward_hook(record_hidden_states),
        head.register_forward_hook(replace_output),
    )
    try:
        device = model.get_input_embeddings().weight.device
        inputs = {"input_ids": torch.zeros(1, 2, dtype=torch.long, device=device)}
        if "token_type_ids" in input_names(type(base_model(model))):  # some models require it
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        with evaluating(model):
            logits = model(**inputs, use_cache=False).logits
    except Exception:  # a model that does not run on tokens alone, such as one that needs an image
        return OutputHead(gives_logits=False)
    finally:
        for hook in hooks:
            hook.remove()
    reads_hidden_states = (
        "input" in recorded
        and isinstance(recorded.get("hidden"), Tensor)
        and torch.equal(recorded["hidden"], recorded["input"])
    )
    if not reads_hidden_states:
        return OutputHead(gives_logits=False)
    return _find_transform(recorded["output"], logits)


def _find_transform(output: Tensor, logits: Tensor) -> OutputHead:
    if torch.equal(output.to(logits), logits):
        return OutputHead(gives_logits=True)
    tolerance = 1e-5 if logits.dtype in (torch.float32, torch.float64) else 2e-2
    scale = logits.flatten()[0].item() / output.flatten()[0].item()
    cap = logits.flatten()[-1].item()
    for transform in (Rescale(scale=scale), Rescale(cap=cap)):
        expected = transform(output.float())
        if torch.allclose(expected, logits.float(), rtol=tolerance, atol=tolerance):
            return OutputHead(gives_logits=True, transform=transform)
    return OutputHead(gives_logits=False)

"""What a language model does to its last hidden state, found out by asking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FAR = 6e4
"""Beyond any soft-cap, and still a number in float16."""


@dataclass(frozen=True)
class Rescale:
    r"""What some models do to every logit after their head: :math:`c \tanh(s z / c)`.

    Args:
        scale: s, as in Cohere and Granite.
        cap: c, as in Gemma 2; None for none.

    Example:
        >>> Rescale(scale=0.5, cap=30.0)(torch.tensor([0.0, 1e6]))
        tensor([ 0., 30.])
    """

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Rescaled logits, of the same shape."""
        logits = logits if self.scale == 1 else logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


@dataclass(frozen=True)
class Readout:
    """How a model gets from its last hidden state to logits.

    Attributes:
        by_head: whether its output head, and ``transform`` after it, are all there is to it.
        transform: what is done to every logit after the head; None for nothing.
    """

    by_head: bool
    transform: Rescale | None = None


@torch.no_grad()
def readout(model: Any) -> Readout:
    """How a Hugging Face model makes its logits.

    Asked of the model and not of its config, whose names for soft-caps and scales differ from one
    architecture to the next: it runs on two tokens, its head answers with numbers of ours, and what
    comes out is compared with what each transform that we know would make of them.
    """
    head = model.get_output_embeddings()
    if head is None:
        return Readout(by_head=False)
    seen: dict[str, Any] = {}

    def remember(module: nn.Module, args: Any, output: Any) -> None:
        seen["hidden"] = getattr(output, "last_hidden_state", None)

    def answer(module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        seen["input"] = args[0]
        numbers = torch.linspace(-64, 64, output.shape[-1]).to(output)
        numbers[..., -1] = FAR
        seen["answer"] = numbers.expand_as(output)
        return seen["answer"]

    was_training = model.training
    hooks = (
        model.get_decoder().register_forward_hook(remember),
        head.register_forward_hook(answer),
    )
    try:
        device = model.get_input_embeddings().weight.device
        ids = torch.zeros(1, 2, dtype=torch.long, device=device)
        logits = model.eval()(input_ids=ids, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    whole = (
        "input" in seen
        and isinstance(seen.get("hidden"), Tensor)
        and torch.equal(seen["hidden"], seen["input"])
    )
    return _explain(seen["answer"], logits) if whole else Readout(by_head=False)


def _explain(answer: Tensor, logits: Tensor) -> Readout:
    if torch.equal(answer.to(logits), logits):
        return Readout(by_head=True)
    tolerance = 1e-5 if logits.dtype in (torch.float32, torch.float64) else 2e-2
    far, first = logits.flatten()[-1].item(), answer.flatten()[0].item()
    scaled = Rescale(scale=logits.flatten()[0].item() / first)
    for guess in (scaled, Rescale(cap=far)):
        if torch.allclose(guess(answer.float()), logits.float(), rtol=tolerance, atol=tolerance):
            return Readout(by_head=True, transform=guess)
    return Readout(by_head=False)

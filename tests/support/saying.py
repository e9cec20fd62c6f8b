"""A language model that says a given text."""

from __future__ import annotations

from typing import Any

import torch

from tests.support import tiny_lm


class Says(torch.nn.Linear):
    """An output head that gives the tokens of a text one after the other, and repeats the last."""

    def __init__(self, ids: list[int], size: int) -> None:
        super().__init__(1, size, bias=False)
        self.ids, self.size, self.step = ids, size, 0

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*input.shape[:-1], self.size)
        logits[..., self.ids[min(self.step, len(self.ids) - 1)]] = 50.0
        one_position = input.shape[-2] == 1  # a step of generation; more is a pass over a batch
        self.step = self.step + 1 if one_position else 0
        return logits


def saying(
    text: str, *, special: tuple[str, ...] = (), ends: tuple[str, ...] = ()
) -> tuple[Any, Any]:
    """Return a model that says ``text``, and its tokenizer.

    Args:
        text: what the model says, whatever the prompt.
        special: special tokens of the tokenizer besides ``<end>``.
        ends: end tokens of the model's generation config.
    """
    tokenizer, model = tiny_lm.tokenizer(), tiny_lm.model().eval()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(end) for end in ends]
    model.resize_token_embeddings(len(tokenizer))
    model.lm_head = Says(tokenizer(text)["input_ids"], len(tokenizer))
    return model, tokenizer

"""A language model of a few hundred weights with a token a character, saved to a folder."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(*, chat: bool = False) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    signs = {sign: i for i, sign in enumerate(["<end>", "<unknown>", *string.printable])}
    backend = Tokenizer(models.WordLevel(signs, unk_token="<unknown>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    made = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")
    if chat:
        made.chat_template = CHATML
    return made


def model(*, layers: int = 2, dim: int = 16, seed: int = 0) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = LlamaConfig(
        vocab_size=len(string.printable) + 2,
        hidden_size=dim,
        intermediate_size=2 * dim,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        eos_token_id=0,
        bos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(sizes)


def save(folder: Path) -> str:
    tokenizer().save_pretrained(folder)
    model().save_pretrained(folder)
    return str(folder)

"""Short texts that tell two tokenizers, and two configs of generation, apart."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from kdlight.models.end_tokens import decode, generation_config

PROBE = (
    "The answer is 12,345.67 - or\n\n\tis it?  def f(x): return x**2  # naïve\n"
    "答案是：\\boxed{7} 😀 İstanbul ﬁn <think>No</think> <|im_end|></s>"
)
"""A text of several languages, with spaces, digits and marks that tokenizers treat differently."""


def hash_tokenizer(tokenizer: Any) -> str:
    """Return a hash of what a tokenizer does, the same in every process.

    It covers the chat template, the vocabulary, the special tokens, and the token ids of a text
    with and without the tokens that the tokenizer adds.

    Example:
        >>> class Characters:
        ...     eos_token_id = 0
        ...     def __call__(self, text, **options):
        ...         return {"input_ids": list(text.encode())}
        ...     def decode(self, ids, **options):
        ...         return bytes(ids).decode()
        >>> one, other = Characters(), Characters()
        >>> other.chat_template = "{{ messages }}"
        >>> hash_tokenizer(one) == hash_tokenizer(Characters()), hash_tokenizer(one) == (
        ...     hash_tokenizer(other)
        ... )
        (True, False)
    """
    ids = [
        list(tokenizer(PROBE, add_special_tokens=add, verbose=False)["input_ids"])
        for add in (True, False)
    ]
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    names = ("chat_template", "eos_token", "eos_token_id", "bos_token", "special_tokens_map")
    found = {
        **{name: getattr(tokenizer, name, None) for name in names},
        "ids": ids,
        "text": decode(tokenizer, ids[0]),
        "vocabulary": sorted((number, token) for token, number in vocabulary.items()),
    }
    return _hash(found)


def hash_generation_config(model: Any) -> str | None:
    """Return a hash of the generation config of a model, or of the model in it; None without one.

    Such a config can change how text is generated, as by a penalty for repetition.

    Example:
        >>> hash_generation_config(object()) is None
        True
    """
    config = generation_config(model)
    if config is None:
        return None
    values = dict(config.to_dict())
    values.pop("transformers_version", None)  # that of the file, which changes no text
    return _hash(values)


def _hash(values: Any) -> str:
    line = json.dumps(values, sort_keys=True, default=str)
    return sha256(line.encode()).hexdigest()[:16]

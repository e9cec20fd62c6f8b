"""What a server tells about its teacher."""

from __future__ import annotations

import sys
from typing import Any

import torch

from kdlight.cache.fingerprints import fingerprint_tokenizer, fingerprint_weights
from kdlight.models.context import context_length
from kdlight.models.model_kind import wrapped_model
from kdlight.remote.wire import PROTOCOL
from kdlight.teachers import Teacher
from kdlight.teachers.precision import is_quantized


def describe_teacher(teacher: Teacher, *, name: str, vocabulary: int, tokenizer: Any) -> dict:
    """Return what `kdlight.remote.ServerInfo` has, and what else a client may want to know.

    Args:
        teacher: the teacher.
        name: its name.
        vocabulary: width V of its logits.
        tokenizer: its tokenizer, or None.

    Example:
        >>> from kdlight import FrozenTeacher
        >>> teacher = FrozenTeacher(torch.nn.Linear(2, 3))
        >>> about = describe_teacher(teacher, name="a model", vocabulary=3, tokenizer=None)
        >>> about["model"], about["dtype"], about["context_length"]
        ('a model', 'float32', None)
    """
    networks = teacher.networks()
    contexts = [length for each in networks if (length := context_length(each)) is not None]
    return {
        "kdlight": sys.modules["kdlight"].__version__,
        "protocol": PROTOCOL,
        "model": name,
        "vocab_size": vocabulary,
        "input_size": input_size(teacher, vocabulary),
        "context_length": min(contexts, default=None),
        "tokenizer": fingerprint_tokenizer(tokenizer),
        "weights": fingerprint_weights(networks),
        "dtype": dtype_of(teacher),
        "scores_ids": True,
        "states": None,
    }


def input_size(teacher: Teacher, vocabulary: int) -> int:
    """Return the number of token ids that all networks read, at most.

    Example:
        >>> from kdlight import FrozenTeacher
        >>> input_size(FrozenTeacher(torch.nn.Linear(2, 3)), 7)
        7
    """
    sizes = []
    for network in teacher.networks():
        model = wrapped_model(network)
        embeddings = None if model is None else model.get_input_embeddings()
        size = getattr(getattr(embeddings, "weight", None), "shape", None)
        sizes.append(vocabulary if size is None else size[0])
    return min(sizes, default=vocabulary)


def dtype_of(teacher: Teacher) -> str:
    """Return the names of the dtypes of the weights of all networks; ``"quantized"`` for others.

    Example:
        >>> from kdlight import FrozenTeacher
        >>> dtype_of(FrozenTeacher(torch.nn.Linear(2, 3)))
        'float32'
    """
    names = []
    for network in teacher.networks():
        floats = (each.dtype for each in network.parameters() if each.is_floating_point())
        first = next(floats, torch.float32)
        quantized = "quantized " if is_quantized(network) else ""
        names.append(quantized + str(first).removeprefix("torch."))
    return ", ".join(dict.fromkeys(names))

"""Check that student, teacher and data have the same token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from kdlight.models import CausalLM, resolve_source
from kdlight.teachers import Teacher
from kdlight.vocabulary import align, read_tokens


def check_tokenizers(datamodule: Any, student: nn.Module, teacher: Any) -> None:
    """Raise a ValueError where a network has another tokenizer than the data.

    Networks and data that do not tell their tokenizer are accepted.

    Args:
        datamodule: the data module of the run, or None.
        student: the network that is trained.
        teacher: a `kdlight.teachers.Teacher`, or None.
    """
    source = getattr(datamodule, "tokenizer_source", None)
    if source is None:
        return
    networks = [("student", student)]
    if isinstance(teacher, Teacher) and not teacher.translates_tokens:
        teacher.check_tokenizer(datamodule.tokenizer)
        networks += [("teacher", network) for network in teacher.networks()]
    for name, network in networks:
        own = _tokenizer_source(network)
        if own is None or (isinstance(source, str) and _location(source) == _location(own)):
            continue
        try:
            tokens = read_tokens(own)
        except ValueError:
            continue
        try:
            align(datamodule.tokenizer.get_vocab(), tokens)
        except ValueError as error:
            raise ValueError(
                f"the {name} ({own}) has another tokenizer than the data ({source}), whose token"
                f" ids it reads. {error}"
            ) from error


def _tokenizer_source(network: Any) -> str | None:
    """Return where the model was loaded from, if its tokenizer may be there."""
    if not isinstance(network, CausalLM):
        return None
    where = getattr(network.model.config, "name_or_path", "")
    if not where or not Path(where).is_dir():
        return where or None
    packed = sorted(Path(where).glob("*.gguf"))
    return str(packed[0]) if len(packed) == 1 else where


def _location(source: str) -> str:
    try:
        where = resolve_source(source)
    except ValueError:
        return source
    return str(Path(where.location, where.gguf_file or ""))

"""Do student, teacher and data mean the same by a token id?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdlight.cache import CachedTeacher
from kdlight.cache.fingerprints import fingerprint_tokenizer
from kdlight.models import CausalLM, resolve_source
from kdlight.vocabulary import align, read_tokens


def check_tokens(data: Any, networks: dict[str, Any]) -> None:
    """Raise a ValueError where a network reads ids of another tokenizer than that of the data.

    Networks and data that do not tell which tokenizer is theirs are let through.

    Args:
        data: the data module.
        networks: student and teacher, or what stands for them, by the name for messages.
    """
    source = getattr(data, "tokenizer_source", None)
    if source is None:
        return
    for name, network in networks.items():
        if isinstance(network, CachedTeacher):
            _check_cache(network, data.tokenizer)
            continue
        where = _files(network)
        if where is None or (isinstance(source, str) and _place(source) == _place(where)):
            continue
        try:
            tokens = read_tokens(where)
        except ValueError:
            continue
        try:
            align(data.tokenizer.get_vocab(), tokens)
        except ValueError as error:
            raise ValueError(
                f"the {name} ({where}) reads the ids of the data's tokenizer ({source}), as the"
                f" student has them, and has another. {error}"
            ) from error


def _check_cache(teacher: CachedTeacher, tokenizer: Any) -> None:
    written = teacher.manifest.tokenizer.get("vocabulary")
    found = fingerprint_tokenizer(tokenizer)
    if None not in (written, found) and written != found:
        raise ValueError(
            f"the cache {teacher.path!r} was written with a tokenizer of fingerprint {written}, and"
            f" the data have {getattr(tokenizer, 'name_or_path', tokenizer)} of {found}; write the"
            " cache again with this tokenizer, or train with that one"
        )


def _files(network: Any) -> str | None:
    """Where the model was loaded from, if its tokenizer may lie beside it."""
    if not isinstance(network, CausalLM):
        return None
    where = getattr(network.model.config, "name_or_path", "")
    if not where or not Path(where).is_dir():
        return where or None
    packed = sorted(Path(where).glob("*.gguf"))
    return str(packed[0]) if len(packed) == 1 else where


def _place(source: str) -> str:
    try:
        where = resolve_source(source)
    except ValueError:
        return source
    return str(Path(where.location, where.gguf_file or ""))

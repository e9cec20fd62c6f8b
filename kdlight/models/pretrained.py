"""Hugging Face models and tokenizers from any source, with one clear error where there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch

from kdlight.models.source import Source, resolve_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB = "https://huggingface.co"


def load_model(
    source: str,
    *,
    gguf_file: str | None = None,
    dtype: str | torch.dtype | None = None,
    attn_implementation: str | None = None,
    model_kwargs: dict[str, Any] | None = None,
) -> PreTrainedModel:
    """Load a Hugging Face causal language model, in evaluation mode, as Hugging Face returns it.

    Weights of a GGUF file are unpacked to ``dtype``: the model can be trained, cut and saved like
    any other.

    Args:
        source: an id, folder, ``.gguf`` file or file in a package, see `resolve_source`.
        gguf_file: name of a GGUF file inside an id or folder.
        dtype: such as ``"bfloat16"``; ``"auto"`` for that of the files. None means float32.
        attn_implementation: such as ``"sdpa"`` or ``"eager"``.
        model_kwargs: anything else that ``AutoModelForCausalLM.from_pretrained`` takes.

    Raises:
        ValueError: nothing can be loaded from ``source``, or ``dtype`` is no floating-point dtype.

    Example:
        >>> load_model("./nowhere")
        Traceback (most recent call last):
        ValueError: source './nowhere' does not exist: give a Hugging Face id, a folder ...
    """
    from transformers import AutoModelForCausalLM

    where = resolve_source(source, gguf_file=gguf_file)
    kwargs: dict[str, Any] = {"dtype": parse_dtype(dtype), **_reach(where), **(model_kwargs or {})}
    if attn_implementation is not None:
        kwargs["attn_implementation"] = attn_implementation
    if where.gguf_file is not None:
        kwargs.update(_unpacked(where.gguf_file))
    with _explained(source, where, "a causal language model"), quiet_progress():
        model: Any = AutoModelForCausalLM.from_pretrained(where.location, **kwargs)
    if where.gguf_file is not None and getattr(model, "hf_quantizer", None) is not None:
        # transformers still calls the unpacked model quantised, and would refuse to save it
        model.hf_quantizer.remove_quantization_config(model)
    return model


def load_tokenizer(source: str, *, gguf_file: str | None = None) -> PreTrainedTokenizerBase:
    """Load the tokenizer of ``source``, spelled as for `load_model`.

    Raises:
        ValueError: nothing can be loaded from ``source``.

    Example:
        >>> load_tokenizer("./nowhere")
        Traceback (most recent call last):
        ValueError: source './nowhere' does not exist: give a Hugging Face id, a folder ...
    """
    from transformers import AutoTokenizer

    where = resolve_source(source, gguf_file=gguf_file)
    kwargs: dict[str, Any] = _reach(where)
    if where.gguf_file is not None:
        kwargs["gguf_file"] = where.gguf_file
    with _explained(source, where, "a tokenizer"):
        return AutoTokenizer.from_pretrained(where.location, **kwargs)


def parse_dtype(dtype: str | torch.dtype | None) -> str | torch.dtype:
    """``"bfloat16"`` -> `torch.bfloat16`; ``"auto"`` stays, None is `torch.float32`.

    Example:
        >>> parse_dtype("bfloat16")
        torch.bfloat16
    """
    if dtype is None:
        return torch.float32
    if dtype == "auto":
        return dtype
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if isinstance(found, torch.dtype) and found.is_floating_point:
        return found
    raise ValueError(f"dtype must be 'float32', 'bfloat16', 'float16' or 'auto', got {dtype!r}")


def _reach(where: Source) -> dict[str, Any]:
    """Stay with local files where the hub has no address, instead of minutes of retries."""
    if Path(where.location).is_dir() or getproxies():  # behind a proxy names resolve elsewhere
        return {}
    try:
        socket.getaddrinfo(urlparse(os.environ.get("HF_ENDPOINT", HUB)).hostname, None)
    except OSError:
        return {"local_files_only": True}
    return {}


def _unpacked(gguf_file: str) -> dict[str, Any]:
    """Arguments that read a GGUF file into plain weights."""
    import transformers

    kwargs: dict[str, Any] = {"gguf_file": gguf_file}
    if hasattr(transformers, "GgufConfig"):  # before 5.x unpacking was the only way
        kwargs["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return kwargs


@contextmanager
def quiet_progress() -> Iterator[None]:
    """Without the bars of transformers, which would run into the trainer's."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _explained(source: str, where: Source, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        tried = (
            f"the GGUF file {where.gguf_file!r} in {where.location!r}"
            if where.gguf_file is not None
            else f"{where.location!r} as a folder here and as an id on the Hugging Face hub"
        )
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ValueError(
            f"cannot load {what} from {source!r}. Tried {tried}. Reason: {reason}"
        ) from error

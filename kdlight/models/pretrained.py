"""Hugging Face models and tokenizers from any location."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse
from urllib.request import getproxies

import torch

from kdlight.models.model_source import Source, resolve_source

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB = "https://huggingface.co"


def load_model(
    source: str,
    *,
    auto_class: str = "AutoModelForCausalLM",
    gguf_file: str | None = None,
    dtype: str | torch.dtype | None = None,
    attn_implementation: str | None = None,
    model_kwargs: dict[str, Any] | None = None,
) -> PreTrainedModel:
    """Load a Hugging Face model, in evaluation mode, as Hugging Face returns it.

    Weights of a GGUF file are dequantized to ``dtype``, so that the model can be trained, pruned
    and saved like any other.

    Args:
        source: an id, folder, ``.gguf`` file or file in a package, see `resolve_source`.
        auto_class: name of the class of transformers that loads it.
        gguf_file: name of a GGUF file inside an id or folder.
        dtype: such as ``"bfloat16"``; ``"auto"`` for the dtype of the files; None for float32.
        attn_implementation: such as ``"sdpa"`` or ``"eager"``.
        model_kwargs: other arguments of ``from_pretrained``.

    Raises:
        ValueError: If no model can be loaded from ``source``, ``dtype`` is not a floating-point
            dtype, or transformers has no such class.

    Example:
        >>> load_model("./nowhere")
        Traceback (most recent call last):
        ValueError: source './nowhere' does not exist in ...: give a Hugging Face id, a folder ...
    """
    import transformers

    loader = getattr(transformers, auto_class, None)
    if not hasattr(loader, "from_pretrained"):
        raise ValueError(
            f"auto_class must name a class of transformers such as"
            f" 'AutoModelForImageClassification', got {auto_class!r}"
        )
    resolved = resolve_source(source, gguf_file=gguf_file)
    kwargs: dict[str, Any] = {
        "dtype": parse_dtype(dtype),
        **_hub_options(resolved),
        **(model_kwargs or {}),
    }
    if attn_implementation is not None:
        kwargs["attn_implementation"] = attn_implementation
    if resolved.gguf_file is not None:
        kwargs.update(_gguf_options(resolved.gguf_file))
    kind = "a causal language model" if auto_class == "AutoModelForCausalLM" else "a model"
    with _clear_errors(source, resolved, kind), quiet_progress():
        model: Any = loader.from_pretrained(resolved.location, **kwargs)  # type: ignore[union-attr]
    if getattr(model, "peft_config", None):
        raise ValueError(
            f"source {source!r} holds adapters of peft, which belong to another model; export the"
            " student with its adapters merged (adapter_only=False), or merge them with"
            " peft.AutoPeftModelForCausalLM.from_pretrained(...).merge_and_unload()"
        )
    if resolved.gguf_file is not None and getattr(model, "hf_quantizer", None) is not None:
        # transformers still marks the dequantized model as quantized, and would not save it
        model.hf_quantizer.remove_quantization_config(model)
    return model


def load_tokenizer(source: str, *, gguf_file: str | None = None) -> PreTrainedTokenizerBase:
    """Load the tokenizer of ``source``, spelled as for `load_model`.

    Raises:
        ValueError: If no tokenizer can be loaded from ``source``.

    Example:
        >>> load_tokenizer("./nowhere")
        Traceback (most recent call last):
        ValueError: source './nowhere' does not exist in ...: give a Hugging Face id, a folder ...
    """
    from transformers import AutoTokenizer

    resolved = resolve_source(source, gguf_file=gguf_file)
    kwargs: dict[str, Any] = _hub_options(resolved)
    if resolved.gguf_file is not None:
        kwargs["gguf_file"] = resolved.gguf_file
    with _clear_errors(source, resolved, "a tokenizer"):
        return AutoTokenizer.from_pretrained(resolved.location, **kwargs)


def as_tokenizer(tokenizer: str | Callable[..., Any]) -> Any:
    """Load a tokenizer from its location; return a tokenizer unchanged.

    Example:
        >>> as_tokenizer(str.split) is str.split
        True
    """
    return load_tokenizer(tokenizer) if isinstance(tokenizer, str) else tokenizer


def parse_dtype(dtype: str | torch.dtype | None) -> str | torch.dtype:
    """Return the dtype of a name; ``"auto"`` is returned unchanged, None is `torch.float32`.

    Example:
        >>> parse_dtype("bfloat16")
        torch.bfloat16
    """
    if dtype is None:
        return torch.float32
    if dtype == "auto":
        return dtype
    parsed = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if isinstance(parsed, torch.dtype) and parsed.is_floating_point:
        return parsed
    raise ValueError(f"dtype must be 'float32', 'bfloat16', 'float16' or 'auto', got {dtype!r}")


def _hub_options(source: Source) -> dict[str, Any]:
    """Read local files only if the hub cannot be reached, instead of minutes of retries."""
    if Path(source.location).is_dir() or getproxies():  # a proxy resolves names itself
        return {}
    try:
        socket.getaddrinfo(urlparse(os.environ.get("HF_ENDPOINT", HUB)).hostname, None)
    except OSError:
        return {"local_files_only": True}
    return {}


def _gguf_options(gguf_file: str) -> dict[str, Any]:
    """Return the arguments that read a GGUF file as dequantized weights."""
    import transformers

    kwargs: dict[str, Any] = {"gguf_file": gguf_file}
    if hasattr(transformers, "GgufConfig"):  # before 5.x, weights were always dequantized
        kwargs["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return kwargs


@contextmanager
def quiet_progress() -> Iterator[None]:
    """Hide the progress bars of transformers, which would interfere with the trainer's."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


@contextmanager
def _clear_errors(source: str, resolved: Source, kind: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, ImportError) as error:
        tried = (
            f"the GGUF file {resolved.gguf_file!r} in {resolved.location!r}"
            if resolved.gguf_file is not None
            else f"{resolved.location!r} as a folder here and as an id on the Hugging Face hub"
        )
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ValueError(
            f"cannot load {kind} from {source!r}. Tried {tried}. Reason: {reason}"
        ) from error

"""The tokens that end a text, from the files of a model whose weights are not loaded."""

from __future__ import annotations

from types import SimpleNamespace

from kdlight.models.end_tokens import end_tokens
from kdlight.models.model_source import resolve_source


def configured_ends(source: str) -> list[int]:
    """Return the ids that the generation config of a model names, or else its config.

    Args:
        source: as for `kdlight.models.load_model`.

    Raises:
        ValueError: there is no such folder or file.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from transformers import GenerationConfig
        >>> with TemporaryDirectory() as folder:
        ...     GenerationConfig(eos_token_id=[0, 7]).save_pretrained(folder)
        ...     configured_ends(folder)
        [0, 7]
    """
    from transformers import AutoConfig, GenerationConfig

    location = resolve_source(source).location
    try:
        config = GenerationConfig.from_pretrained(location)
    except OSError:  # older models have no such file
        try:
            config = AutoConfig.from_pretrained(location)
        except (OSError, ValueError):  # a GGUF file, whose tokenizer names them
            return []
    return end_tokens(SimpleNamespace(generation_config=config), None)

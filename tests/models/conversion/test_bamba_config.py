"""The settings of a hybrid are those of its teacher, as far as both have them."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import BambaConfig, LlamaConfig

from kdlight.models.conversion.bamba_config import COPIED, bamba_config
from tests.models.tiny_models import SIZES


def llama_config(**changes: Any) -> LlamaConfig:
    return LlamaConfig(**{**SIZES, **changes})


def test_settings_are_copied_where_the_defaults_differ() -> None:
    others: dict[str, Any] = {
        "rms_norm_eps": 1e-4,
        "attention_dropout": 0.25,
        "initializer_range": 0.5,
        "tie_word_embeddings": True,
        "pad_token_id": None,
        "use_cache": False,
    }
    config = llama_config(**others)
    made = bamba_config(config, [0], chunk_size=8)
    for name in COPIED:
        assert getattr(made, name) == getattr(config, name), name
    assert all(getattr(BambaConfig(), name) != value for name, value in others.items())
    assert (made.mamba_chunk_size, made.mamba_expand) == (8, 1)


def test_a_head_of_a_mixer_is_as_wide_as_one_of_attention() -> None:
    made = bamba_config(llama_config(head_dim=16), [0], chunk_size=8)  # twice the hidden size
    assert (made.head_dim, made.mamba_d_head, made.mamba_d_state) == (16, 16, 16)
    assert (made.mamba_n_heads, made.mamba_n_groups, made.mamba_expand) == (2, 2, 2)


def test_rotary_embeddings_turn_all_channels() -> None:
    config = llama_config(rope_parameters={"rope_type": "linear", "rope_theta": 5e3, "factor": 2.0})
    made = bamba_config(config, [0], chunk_size=8)
    assert made.rope_parameters == {**config.rope_parameters, "partial_rotary_factor": 1.0}  # type: ignore[dict-item]
    assert "partial_rotary_factor" not in config.rope_parameters  # type: ignore[operator]
    again = BambaConfig.from_dict(made.to_dict())
    assert again.rope_parameters == made.rope_parameters


def test_an_older_transformers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BambaConfig.__annotations__, "rope_parameters")
    with pytest.raises(ImportError, match="needs transformers 5 or newer"):
        bamba_config(llama_config(), [0], chunk_size=8)

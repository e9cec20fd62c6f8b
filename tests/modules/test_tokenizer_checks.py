"""The tokenizer of the data is compared with that of every network before a fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from kdlight import CachedTeacher, FrozenTeacher
from kdlight.cache import Manifest, Settings
from kdlight.cache.fingerprints import fingerprint_tokenizer
from kdlight.models import CausalLM
from kdlight.modules.tokenizer_checks import check_tokenizers


def make_tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


ONE, OTHER = make_tokenizer(["a", "b", "c"]), make_tokenizer(["a", "c", "b"])


def save_model(folder: Path, tokenizer: Any) -> CausalLM:
    """Save a model of three tokens together with its tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=3,
        hidden_size=4,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return CausalLM(str(folder))


def test_vocabularies_of_one_size_may_differ(tmp_path: Path) -> None:
    network = save_model(tmp_path / "other", OTHER)
    data = SimpleNamespace(tokenizer_source=ONE, tokenizer=ONE)
    message = (
        r"the teacher .*other\) has another tokenizer .*1 of 3 ids .*id 1 is 'b'.*policy='map'"
    )
    with pytest.raises(ValueError, match=message):
        check_tokenizers(data, nn.Identity(), FrozenTeacher(network))
    check_tokenizers(
        SimpleNamespace(tokenizer_source=OTHER, tokenizer=OTHER),
        nn.Identity(),
        FrozenTeacher(network),
    )
    check_tokenizers(
        SimpleNamespace(), nn.Identity(), FrozenTeacher(network)
    )  # data without a tokenizer


def test_a_cache_of_another_tokenizer_raises(tmp_path: Path) -> None:
    fingerprints = {"vocabulary": fingerprint_tokenizer(ONE)}
    Manifest({}, fingerprints, {}, 3, Settings()._asdict(), complete=True).write(tmp_path)
    teacher = CachedTeacher(str(tmp_path))
    check_tokenizers(SimpleNamespace(tokenizer_source=ONE, tokenizer=ONE), nn.Identity(), teacher)
    with pytest.raises(
        ValueError, match=f"fingerprint {fingerprints['vocabulary']}, but the tokenizer of the data"
    ):
        check_tokenizers(
            SimpleNamespace(tokenizer_source="x", tokenizer=OTHER), nn.Identity(), teacher
        )

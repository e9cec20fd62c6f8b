"""The tokenizer of the data against that of every network, before a fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdlight import CachedTeacher
from kdlight.cache import Manifest, Settings
from kdlight.cache.fingerprints import fingerprint_tokenizer
from kdlight.models import CausalLM
from kdlight.modules.tokenizer_checks import check_tokens


def tokenizer(words: list[str]) -> Any:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: id for id, word in enumerate(words)}))
    return PreTrainedTokenizerFast(tokenizer_object=backend)


ONE, OTHER = tokenizer(["a", "b", "c"]), tokenizer(["a", "c", "b"])


def saved(folder: Path, its: Any) -> CausalLM:
    """A model of three tokens beside its tokenizer."""
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
    its.save_pretrained(folder)
    return CausalLM(str(folder))


def test_one_size_is_not_one_vocabulary(tmp_path: Path) -> None:
    network = saved(tmp_path / "other", OTHER)
    data = SimpleNamespace(tokenizer_source=ONE, tokenizer=ONE)
    why = r"the teacher .*other\) reads .*1 of 3 ids .*id 1 is 'b'.*policy='map'"
    with pytest.raises(ValueError, match=why):
        check_tokens(data, {"student": None, "teacher": network})
    check_tokens(SimpleNamespace(tokenizer_source=OTHER, tokenizer=OTHER), {"teacher": network})
    check_tokens(SimpleNamespace(), {"teacher": network})  # no text


def test_a_cache_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    fingerprints = {"vocabulary": fingerprint_tokenizer(ONE)}
    Manifest({}, fingerprints, {}, 3, Settings()._asdict(), complete=True).write(tmp_path)
    teacher = CachedTeacher(str(tmp_path))
    check_tokens(SimpleNamespace(tokenizer_source=ONE, tokenizer=ONE), {"teacher": teacher})
    with pytest.raises(ValueError, match=f"fingerprint {fingerprints['vocabulary']}, and the data"):
        check_tokens(SimpleNamespace(tokenizer_source="x", tokenizer=OTHER), {"teacher": teacher})

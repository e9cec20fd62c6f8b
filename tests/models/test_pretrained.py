"""Models and tokenizers are loaded from any location, or one clear error is raised."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdlight.models import (
    CausalLM,
    PrunedCausalLM,
    load_model,
    load_tokenizer,
)
from kdlight.models.pretrained import as_tokenizer, parse_dtype, quiet_progress
from tests.models.tiny_models import DEPTH, SIZES, tokens
from tests.support import tiny_lm

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")


@pytest.mark.parametrize("load", [load_model, load_tokenizer, CausalLM])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nobody/no-such-model", "folder here and as an id on the Hugging Face hub"),
        ("./no-such-folder", "does not exist"),
        ("no-such-file.gguf", "GGUF file that does not exist"),
        (__file__, "not a .gguf file"),
    ],
)
def test_a_model_that_is_nowhere_is_one_clear_error(load, source, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(source)
    assert source in str(caught.value)


def test_dtypes():
    assert parse_dtype(None) is torch.float32
    assert parse_dtype("bfloat16") is parse_dtype(torch.bfloat16) is torch.bfloat16
    for wrong in ("bfloat", "int64"):
        with pytest.raises(ValueError, match=wrong):
            parse_dtype(wrong)


def test_a_gguf_file_is_dequantized(tmp_path):
    """The file is written from known weights; the loaded model can be pruned and saved."""
    import gguf

    config = transformers.LlamaConfig(**{**SIZES, "num_key_value_heads": 2}, head_dim=8)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    # the file format interleaves the halves of rotary heads; equal rows make that invisible
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            nn.init.constant_(projection.weight, 0.1)
    writer = gguf.GGUFWriter(str(tmp_path / "tiny.gguf"), "llama")
    writer.add_block_count(DEPTH)
    writer.add_context_length(64)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(24)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(8)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(31)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, DEPTH)
    for name, value in model.state_dict().items():
        called = names.get_name(name, (".weight",))
        assert called is not None
        writer.add_tensor(called, value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    loaded = CausalLM(str(tmp_path / "tiny.gguf"))
    assert not hasattr(loaded.model.config, "quantization_config")
    assert loaded.context_length == 64
    batch = {"input_ids": tokens()}
    torch.testing.assert_close(loaded.eval()(batch).logits(), model(**batch).logits)
    PrunedCausalLM(2).build(loaded).save_pretrained(tmp_path / "student")
    assert CausalLM(str(tmp_path / "student")).model.config.num_hidden_layers == 2


def test_transformers_is_not_imported_until_a_model_is_loaded():
    code = (
        "import sys, kdlight.models, kdlight.models.digits, kdlight.data.targets\n"
        "assert 'transformers' not in sys.modules and 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_tokenizer_is_loaded_once_or_returned(tmp_path: Path) -> None:
    tokenizer = tiny_lm.tokenizer()
    assert as_tokenizer(tokenizer) is tokenizer
    tokenizer.save_pretrained(tmp_path)
    assert as_tokenizer(str(tmp_path)).get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("enabled", [True, False])
def test_progress_bars_are_as_before(enabled: bool) -> None:
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if enabled else logging.disable_progress_bar)()
    try:
        with quiet_progress():
            assert not logging.is_progress_bar_enabled()
        assert logging.is_progress_bar_enabled() == enabled
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()

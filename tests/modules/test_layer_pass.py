"""Modules of real models get what the modules of their teacher get: masks, positions, all else."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from kdlight import CausalLM
from kdlight.features.calls import ModuleCall
from kdlight.modules.layer_loss import LayerLoss
from kdlight.modules.layer_pass import LayerPass
from kdlight.modules.layerwise import LayerwiseDistillationModule
from tests.support import toy

# what transformers 5 calls gradient_checkpointing_enable
ENABLE = next(
    name
    for name in ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    if hasattr(LlamaForCausalLM, name)
)
SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = torch.randint(1, 29, (3, 6), generator=torch.Generator().manual_seed(0))
PADDING = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]])
TEXT = {"input_ids": IDS, "attention_mask": PADDING}
IMAGES = {"pixel_values": torch.randn(3, 3, 16, 16), "labels": torch.tensor([0, 1, 2])}


def llama() -> nn.Module:
    sizes: dict[str, Any] = {
        **SMALL,
        "intermediate_size": 24,
        "num_key_value_heads": 1,
        "vocab_size": 29,
    }
    return LlamaForCausalLM(LlamaConfig(**sizes, pad_token_id=0))


def gpt2() -> nn.Module:
    none: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(
        GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=29, n_positions=8, **none)
    )


def bert() -> nn.Module:
    none: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes: dict[str, Any] = {**SMALL, "intermediate_size": 24, "vocab_size": 29, "num_labels": 3}
    return BertForSequenceClassification(BertConfig(**sizes, **none))


def vit() -> nn.Module:
    none: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes: dict[str, Any] = {
        **SMALL,
        "intermediate_size": 24,
        "image_size": 16,
        "patch_size": 8,
        "num_labels": 3,
    }
    return ViTForImageClassification(ViTConfig(**sizes, **none))


def resnet() -> nn.Module:
    sizes: dict[str, Any] = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    return ResNetForImageClassification(
        ResNetConfig(**sizes, layer_type="basic", num_labels=3)  # type: ignore[arg-type]
    )


def layers(root: str, count: int = 2) -> list[str]:
    return [f"{root}.{number}" for number in range(count)]


LM = {**TEXT, "labels": IDS.masked_fill(PADDING == 0, -100)}
MODELS: dict[str, tuple[Callable[[], nn.Module], list[str], dict[str, Tensor]]] = {
    "llama": (llama, layers("model.layers"), LM),
    "llama_parts": (llama, ["layers.0.mlp", "layers.1.self_attn"], LM),
    "wrapped": (lambda: CausalLM.wrap(llama()), layers("model.model.layers"), LM),
    "gpt2": (gpt2, layers("transformer.h"), LM),
    "bert": (bert, layers("encoder.layer"), {**TEXT, "labels": torch.tensor([0, 1, 2])}),
    "vit": (vit, layers("vit.layers"), IMAGES),
    "resnet": (resnet, layers("resnet.encoder.stages"), IMAGES),
}


def make(name: str, **options: Any) -> tuple[LayerwiseDistillationModule, dict[str, Tensor]]:
    torch.manual_seed(0)
    network, paths, batch = MODELS[name]
    teacher = network()
    student = deepcopy(teacher).eval()
    return (
        LayerwiseDistillationModule(student, teacher, {p: p for p in paths}, **options),
        batch,
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_of_the_teacher_has_no_loss(name: str) -> None:
    trained, batch = make(name)
    loss = trained.learner_losses(batch)["student"][0]
    assert loss.total.item() == 0
    assert not any(each.item() for each in loss.parts.values())
    loss.total.backward()
    for module in trained.student_modules().values():
        assert all(p.grad is not None and not p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_of_a_module_learns(name: str) -> None:
    trained, batch = make(name)
    with torch.no_grad():
        for parameter in trained.student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    teacher = trained.teacher.networks()[0]
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    loss = trained.learner_losses(batch)["student"][0]
    assert loss.count.item() == (11 if "labels" in batch and batch["labels"].dim() == 2 else 3)
    loss.total.backward()
    trained_ids = {
        id(p) for module in trained.student_modules().values() for p in module.parameters()
    }
    for key, parameter in trained.student.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in trained_ids), key
        # a bias of all keys changes no softmax
        is_bias_of_keys = "k_proj.bias" in key or "key.bias" in key
        assert parameter.grad is None or is_bias_of_keys or parameter.grad.any(), key
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_hidden_states_of_a_model_are_the_inputs_and_targets() -> None:
    trained, batch = make("bert")
    with torch.no_grad():
        for parameter in trained.student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    teacher, student = trained.teacher.networks()[0], trained.student
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    hidden = teacher(**inputs, output_hidden_states=True).hidden_states
    total = 0.0
    for number in range(2):
        calls: list[float] = []
        for row in range(3):  # without padding there is no mask
            length = int(PADDING[row].sum())
            layer: Any = student.get_submodule(f"bert.encoder.layer.{number}")
            output = layer(hidden[number][row : row + 1, :length])
            output = output[0] if isinstance(output, tuple) else output
            gap = output[0] - hidden[number + 1][row, :length]
            calls.append(gap.square().mean().item())
        total += sum(calls) / 2
    loss = trained.learner_losses(batch)["student"][0]
    assert loss.total.item() == pytest.approx(total, rel=1e-5)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    def gradients(enable: bool) -> list[Tensor]:
        trained, batch = make("llama")
        student: Any = trained.student
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.mul_(1.5)
        if enable:
            getattr(student, ENABLE)()
        student.train()
        trained.learner_losses(batch)["student"][0].total.backward()
        return [p.grad for p in student.parameters() if p.grad is not None]

    plain, repeated = gradients(False), gradients(True)
    assert len(plain) == len(repeated) > 0
    assert all(map(torch.equal, plain, repeated))


def test_encoder_decoders_are_refused(tmp_path: Any) -> None:
    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=29)
    teacher = T5ForConditionalGeneration(config)
    pairs = {"encoder.block.0": "encoder.block.0"}
    trained = LayerwiseDistillationModule(deepcopy(teacher), teacher, pairs)
    rows: Any = [LM]
    loader = torch.utils.data.DataLoader(rows, batch_size=None)
    with pytest.raises(ValueError, match="modules of an encoder and of a decoder"):
        toy.trainer(tmp_path, max_epochs=1).fit(trained, loader)


def test_two_modules_may_learn_from_one() -> None:
    teacher = nn.Linear(4, 3)
    modules = {"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)}
    x = torch.randn(5, 4)
    run = LayerPass(LayerLoss({"a": "t", "b": "t"}), modules, None, x)
    run.observe(ModuleCall("t", (x,), {}, teacher(x).detach()))
    for path, module in modules.items():
        expected = (module(x) - teacher(x)).square().mean(-1).sum()
        torch.testing.assert_close(run.totals[path], expected.detach())
    loss = run.loss()
    torch.testing.assert_close(loss.total, (run.totals["a"] + run.totals["b"]) / 2)
    loss.total.backward()
    with pytest.raises(RuntimeError, match="are used up"):
        loss.total.backward()


def test_without_gradients_none_are_computed() -> None:
    layer, x = nn.Linear(4, 3), torch.randn(5, 4)
    with torch.no_grad():
        run = LayerPass(LayerLoss({"a": "t"}), {"a": layer}, None, x)
        run.observe(ModuleCall("t", (x,), {}, torch.zeros(5, 3)))
        assert not run.loss().total.requires_grad


def test_outputs_without_a_graph_are_refused() -> None:
    class Detached(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()

    x = torch.randn(5, 4)
    run = LayerPass(LayerLoss({"a": "t"}), {"a": Detached(4, 3)}, None, x)
    with pytest.raises(ValueError, match="output of the module 'a' of the student has no gradient"):
        run.observe(ModuleCall("t", (x,), {}, torch.zeros(5, 3)))


def test_a_module_of_another_width_is_named() -> None:
    run = LayerPass(
        LayerLoss({"ours": "theirs"}), {"ours": nn.Linear(3, 3)}, None, torch.ones(4, 2)
    )
    call = ModuleCall("theirs", (torch.ones(4, 2),), {}, torch.ones(4, 3))
    with pytest.raises(
        RuntimeError, match="the module 'ours' of the student cannot be called with"
    ):
        run.observe(call)

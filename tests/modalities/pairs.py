"""A student and a teacher for each kind of input, of other sizes or other architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kdlight import DistillationModule, MultiLabel, SingleInput
from kdlight.models.crepe import Crepe
from kdlight.models.digits import ConvNet
from kdlight.objectives import ForwardKL
from tests.families.family import maker
from tests.families.of_pictures import IMAGE, VIT
from tests.families.of_text import BERT, SIZES

COUNT = 8
"""Number of samples."""

CLASSES = 5
SMALL_VIT = {**VIT, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
SMALL_BERT = {**BERT, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
SMALL_TEXT = {**SIZES, "hidden_size": 16, "intermediate_size": 24, "head_dim": 4}
WAVES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 8,
    "num_labels": CLASSES,
    "feat_extract_norm": "layer",  # padding then changes nothing
    **dict.fromkeys(("hidden_dropout", "attention_dropout", "feat_proj_dropout"), 0.0),
    **dict.fromkeys(("layerdrop", "mask_time_prob", "final_dropout", "activation_dropout"), 0.0),
}


@dataclass(frozen=True)
class Pair:
    """Two networks and samples that both read.

    Attributes:
        student: what makes the student.
        teacher: what makes the teacher, another network.
        samples: the samples as one batch; a row of an entry belongs to a sample.
        inputs: the entries that the logits of both depend on.
        shape: shape of the logits of the batch.
        options: of the module.
        depends_on_batch: whether a row depends on the other rows of a training batch.
    """

    student: Callable[[], nn.Module]
    teacher: Callable[[], nn.Module]
    samples: Callable[[], dict[str, Tensor]]
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    depends_on_batch: bool = False


def normal(*shape: int) -> Tensor:
    return torch.randn(COUNT, *shape, generator=torch.Generator().manual_seed(7))


def integers(low: int, high: int, *shape: int, seed: int = 8) -> Tensor:
    return torch.randint(low, high, (COUNT, *shape), generator=torch.Generator().manual_seed(seed))


def of_transformers(model: str, config: str, seed: int, **sizes: Any) -> Callable[[], nn.Module]:
    make = maker(model, config, dtype=torch.float32, **sizes)
    return lambda: make(seed)


def seeded(make: Callable[[], nn.Module], seed: int = 1) -> Callable[[], nn.Module]:
    """Return what makes a network from a seed."""

    def made() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return make().eval()

    return made


def confident(make: Callable[[], nn.Module], factor: float = 10.0) -> Callable[[], nn.Module]:
    """Return what makes a network with larger weights of its last layer."""

    def made() -> nn.Module:
        network = make()
        *_, last = (each for each in network.parameters() if each.dim() == 2)
        with torch.no_grad():
            last.mul_(factor)
        return network

    return made


def images(channels: int = 3, size: int = 16) -> dict[str, Tensor]:
    return {"pixel_values": normal(channels, size, size), "labels": integers(0, CLASSES)}


def text() -> dict[str, Tensor]:
    """Return pairs of texts of several lengths."""
    lengths = torch.tensor([9, 4, 7, 9, 5, 8, 6, 9])
    places = torch.arange(9)
    mask = (places < lengths[:, None]).long()
    return {
        "input_ids": integers(10, 60, 9) * mask,
        "attention_mask": mask,
        "token_type_ids": (places >= lengths[:, None] // 2).long() * mask,
        "labels": integers(0, CLASSES),
    }


def questions_about_images() -> dict[str, Tensor]:
    """Return text that is the same in two rows, about other images."""
    ids = integers(10, 60, 8)
    ids[:, 1:5] = IMAGE
    ids[1] = ids[0]
    labels = ids.clone()
    labels[:, :5] = -100
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": normal(3, 16, 16),
        "labels": labels,
    }


def maps() -> dict[str, Tensor]:
    labels = integers(0, CLASSES, 8, 8)
    labels[0, :3] = 255
    return {"pixel_values": normal(3, 32, 32), "labels": labels}


def waves() -> dict[str, Tensor]:
    lengths = torch.tensor([160, 90, 120, 160, 100, 140, 110, 160])
    mask = (torch.arange(160) < lengths[:, None]).long()
    return {"input_values": normal(160) * mask, "attention_mask": mask} | {
        "labels": integers(0, CLASSES)
    }


def tones() -> dict[str, Tensor]:
    return {"sound": normal(1024), "labels": integers(0, 2, 360)}


def plain_cnn() -> nn.Module:
    net = ConvNet(channels=4, classes=CLASSES, size=8, dropout=0.0)
    return SingleInput(net, key="pixel_values")


def segments() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
    return SingleInput(net, key="pixel_values", class_dim=1)


def pitches() -> nn.Module:
    return MultiLabel(SingleInput(Crepe("tiny"), key="sound"))


RESNET = {"num_channels": 1, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
SEGFORMER = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [8, 16],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 16,
}


def llava(seed: int, sizes: dict[str, Any], vision: dict[str, Any]) -> Callable[[], nn.Module]:
    return of_transformers(
        "LlavaForConditionalGeneration",
        "LlavaConfig",
        seed,
        image_token_id=IMAGE,
        text_config={"model_type": "llama", **sizes},
        vision_config={"model_type": "clip_vision_model", **vision, "num_hidden_layers": 2},
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=5e-3)


def slow_adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=5e-4)


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


PAIRS: dict[str, Pair] = {
    "convolutional": Pair(
        seeded(plain_cnn),
        confident(
            of_transformers(
                "ResNetForImageClassification", "ResNetConfig", 2, **RESNET, layer_type="basic",
                num_labels=CLASSES,
            )
        ),
        lambda: images(1, 8), ("pixel_values",), (COUNT, CLASSES), depends_on_batch=True,
    ),
    "residual": Pair(
        of_transformers(
            "ResNetForImageClassification", "ResNetConfig", 1, **RESNET, layer_type="bottleneck",
            num_labels=CLASSES,
        ),
        seeded(plain_cnn, 2), lambda: images(1, 8), ("pixel_values",), (COUNT, CLASSES),
        depends_on_batch=True,
    ),
    "vision_transformer": Pair(
        of_transformers(
            "ViTForImageClassification", "ViTConfig", 1, **SMALL_VIT, num_labels=CLASSES
        ),
        of_transformers("ViTForImageClassification", "ViTConfig", 2, **VIT, num_labels=CLASSES),
        images, ("pixel_values",), (COUNT, CLASSES),
    ),
    "encoder": Pair(
        of_transformers(
            "BertForSequenceClassification", "BertConfig", 1, **SMALL_BERT, num_labels=CLASSES
        ),
        of_transformers(
            "BertForSequenceClassification", "BertConfig", 2, **BERT, num_labels=CLASSES
        ),
        text, ("input_ids", "attention_mask", "token_type_ids"), (COUNT, CLASSES),
    ),
    "vision_language": Pair(
        llava(1, SMALL_TEXT, SMALL_VIT), llava(2, SIZES, VIT), questions_about_images,
        ("input_ids", "pixel_values"), (COUNT, 8, 61),
    ),
    "segmentation": Pair(
        seeded(segments),
        of_transformers(
            "SegformerForSemanticSegmentation", "SegformerConfig", 2, **SEGFORMER,
            num_labels=CLASSES,
            **dict.fromkeys(
                ("hidden_dropout_prob", "classifier_dropout_prob", "drop_path_rate"), 0.0
            ),
        ),
        maps, ("pixel_values",), (COUNT, 8, 8, CLASSES), {"ignore_index": 255},
    ),
    "speech": Pair(
        of_transformers("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", 1, **WAVES),
        of_transformers(
            "Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", 2,
            **{**WAVES, "hidden_size": 32, "num_hidden_layers": 2},
        ),
        waves, ("input_values", "attention_mask"), (COUNT, CLASSES),
    ),
    "pitch": Pair(
        seeded(pitches), confident(seeded(pitches, 2), 100.0), tones, ("sound",), (COUNT, 360, 2),
        {"optimizer": slow_adam}, depends_on_batch=True,
    ),
}  # fmt: skip


class Samples(Dataset):
    """The samples of a pair, one by one."""

    def __init__(self, samples: dict[str, Tensor]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.samples.items()}


def loader(pair: Pair, batch_size: int = COUNT) -> DataLoader:
    return DataLoader(Samples(pair.samples()), batch_size)


def module(pair: Pair, **options: Any) -> DistillationModule:
    """Return the module of a pair; a teacher in ``options`` takes the place of the network."""
    if "teacher" not in options:
        options["teacher"] = pair.teacher()
    chosen = {"objective": ForwardKL(), "optimizer": adam, **pair.options, **options}
    return DistillationModule(pair.student(), **chosen)

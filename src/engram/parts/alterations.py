"""Random alterations of pictures that keep what they show, for training."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

Rows = Float[Tensor, "b c h w"]
Goal = Float[Tensor, "b classes"]
ALTERATIONS = ("shift", "flip", "cutout", "noise", "mixup")
NOISE = 0.1
"""Deviation of the noise, in ranges of a pixel."""


def altered(name: str, rows: Rows, goal: Goal, rng: torch.Generator) -> tuple[Rows, Goal]:
    """One alteration of a batch, drawn for each picture; only mixup changes what is to be answered.

    Args:
        name: shift: by up to an eighth of the side, edges repeated; flip: left and right, of
            every other picture; cutout: a square of half the side is set to a middle grey; noise:
            Gaussian, of deviation 0.1; mixup: each with another one, by an even share.
        rows: Pixels from 0 to 1.
        goal: The share of each class in the answer.
        rng: Of these draws.
    """
    if name == "shift":
        return shifted(rows, rng), goal
    if name == "flip":
        chosen = torch.rand(len(rows), generator=rng) < 0.5
        return torch.where(chosen[:, None, None, None], rows.flip(3), rows), goal
    if name == "cutout":
        return covered(rows, rng), goal
    if name == "noise":
        return rows + NOISE * torch.randn(rows.shape, generator=rng), goal
    share = torch.rand(len(rows), 1, generator=rng)
    other = torch.randperm(len(rows), generator=rng)
    mixed = share[:, :, None, None] * rows + (1 - share)[:, :, None, None] * rows[other]
    return mixed, share * goal + (1 - share) * goal[other]


def shifted(rows: Rows, rng: torch.Generator) -> Rows:
    """Each picture moved by up to an eighth of its side, at least a pixel, both ways."""
    height, width = rows.shape[2:]
    reach = max(1, min(height, width) // 8)
    padded = nn.functional.pad(rows, (reach,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * reach + 1, (2, len(rows)), generator=rng)
    y = down[:, None, None] + torch.arange(height)[None, :, None]
    x = right[:, None, None] + torch.arange(width)[None, None, :]
    picture = torch.arange(len(rows))[:, None, None]
    return padded.permute(0, 2, 3, 1)[picture, y, x].permute(0, 3, 1, 2)


def covered(rows: Rows, rng: torch.Generator) -> Rows:
    """Each picture with a grey square of half its side, centred anywhere."""
    height, width = rows.shape[2:]
    half = max(1, min(height, width) // 4)
    top = torch.randint(0, height, (len(rows), 1), generator=rng)
    left = torch.randint(0, width, (len(rows), 1), generator=rng)
    y = (torch.arange(height)[None] - top).abs() < half
    x = (torch.arange(width)[None] - left).abs() < half
    return torch.where((y[:, :, None] & x[:, None, :])[:, None], 0.5, rows)

"""Features that need no labels: what stays the same in a picture that is moved, turned and dimmed.

Two changed copies of every picture go through one network. Each of its features should say the
same of both copies, and no two features the same as each other (Zbontar et al., 2021):

    C_ij = sum over pictures b of z1_bi z2_bj / (norm of z1_i * norm of z2_j)
    L    = sum_i (1 - C_ii)^2 + lambda * sum over i != j of C_ij^2

where z1 and z2 are what a projector makes of the two copies, less its mean over the batch.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram.core import DivergedError, Run, torch_seeded
from engram.parts.networks import Network

OFF_DIAGONAL = 5e-3
"""Lambda; the paper's value."""


@dataclass(frozen=True)
class Changes:
    """How far a copy may be from its picture.

    Attributes:
        move: Of the width and height, to either side.
        turn: Degrees, to either side.
        zoom: The most that is cut off, as a share of the side.
        light: The most by which brightness and contrast change, in spreads of a pixel and as a
            share.
        flip: Whether left and right are exchanged half of the time.
    """

    move: float = 0.1
    turn: float = 15.0
    zoom: float = 0.3
    light: float = 0.4
    flip: bool = False


def changed(
    images: Float[Tensor, "n c h w"], changes: Changes, rng: np.random.Generator
) -> Float[Tensor, "n c h w"]:
    """A copy of each picture, every one changed in its own way."""
    n = len(images)
    angle = np.deg2rad(rng.uniform(-changes.turn, changes.turn, n))
    scale = 1 - rng.uniform(0, changes.zoom, n)
    mirror = np.where(rng.random(n) < 0.5, -1.0, 1.0) if changes.flip else np.ones(n)
    moved = rng.uniform(-2 * changes.move, 2 * changes.move, (n, 2))
    light = rng.uniform(-changes.light, changes.light, (2, n, 1, 1, 1))
    way = np.empty((n, 2, 3))
    way[:, 0] = np.stack([scale * np.cos(angle) * mirror, -scale * np.sin(angle), moved[:, 0]], 1)
    way[:, 1] = np.stack([scale * np.sin(angle) * mirror, scale * np.cos(angle), moved[:, 1]], 1)
    grid = functional.affine_grid(
        torch.from_numpy(way).to(images), list(images.shape), align_corners=False
    )
    copies = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    brighter, stronger = torch.from_numpy(light).to(images)
    return copies * (1 + stronger) + brighter


def twins_loss(
    one: Float[Tensor, "b k"], other: Float[Tensor, "b k"], off_diagonal: float = OFF_DIAGONAL
) -> Float[Tensor, ""]:
    """How far the correlations of two copies' features are from the unit matrix."""
    first, second = ((z - z.mean(0)) for z in (one, other))
    lengths = first.norm(dim=0)[:, None] * second.norm(dim=0)[None, :]
    correlation = first.T @ second / lengths.clamp_min(1e-12)
    same = (1 - correlation.diagonal()).square().sum()
    return same + off_diagonal * (
        correlation.square().sum() - correlation.diagonal().square().sum()
    )


def projection(features: int, outputs: int) -> nn.Sequential:
    """What the loss looks at in the place of the features, with normalisation over the batch."""
    return nn.Sequential(
        nn.Linear(features, outputs),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.Linear(outputs, outputs),
    )


def learn_without_labels(
    network: Network,
    features: Float[Tensor, "n d"],
    run: Run,
    *,
    epochs: int,
    batch_size: int,
    rate: float = 1e-3,
    projector: int = 256,
    changes: Changes | None = None,
) -> list[float]:
    """Train all of the network but its last layer; returns the mean loss of each epoch.

    Args:
        network: An mlp, cnn or resnet for pictures, in place.
        features: In the units of the data.
        run: Its seed decides projector, batches and changes.
        epochs: Times that each picture is seen.
        batch_size: Pictures in a step; what remains of an epoch, if it is less than two, is left.
        rate: Of AdamW, at first; it falls to 0 by half a cosine.
        projector: Numbers that the projector makes of the features.
        changes: How copies differ; None: as usual.
    """
    body = network.body[:-1]  # type: ignore[index]
    with torch_seeded(run.seed, "projector"):
        head = projection(network.body[-1].in_features, projector)  # type: ignore[index]
    head.to(run.device)
    trained = [*body.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=1e-4)
    steps = epochs * -(-len(features) // batch_size)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(steps, 1))
    order, change, means = run.stream("twins"), changes or Changes(), []
    for epoch in range(epochs):
        run.progress(epoch, epochs, "training the teacher")
        losses = []
        for rows in torch.from_numpy(order.permutation(len(features))).split(batch_size):
            if len(rows) < 2:
                continue
            images = network.shaped(features[rows].to(run.device))
            pair = [head(body(changed(images, change, order))) for _ in range(2)]
            loss = twins_loss(*pair)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            fall.step()
            losses.append(float(loss.detach()))
        means.append(float(np.mean(losses)) if losses else 0.0)
        if not np.isfinite(means[-1]):
            raise DivergedError(
                f"training the teacher diverged in epoch {epoch + 1} of {epochs}",
                hint="take fewer epochs, or pictures of a narrower range",
                step=epoch,
            )
    run.progress(epochs, epochs, "training the teacher")
    return means

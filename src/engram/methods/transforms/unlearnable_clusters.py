"""Move whole clusters of pictures to one another, so that no labels of whoever trains help.

Noise for a class protects only as long as the trainer uses that class. Here pictures are grouped by
what an encoder sees in them, without labels, and all pictures of a group get one noise that makes
them look like another group. Whatever the trainer's labels, what is seen no longer fits them.

    E = f(X),  k-means -> clusters C_1..C_p with centres mu,   g(i) = i + offset mod p
    L_i = mean over x in C_i of  KL( softmax(mu_g(i)) || softmax(f(clip(x + delta_i, 0, 1))) )

with delta_i = epsilon tanh(v_i) of a picture v_i that is free, or with `generator` is made by a
generator of its own from a fixed random picture. f is any encoder; by default a small network that
has learnt nothing but to tell how far these pictures were turned.

Differs from the paper: 1. epsilon tanh instead of clamping, which has no slope beyond the budget.
2. A cluster's generator sees that cluster alone; the published code shows it all (`scope all`).
3. No random crops and flips meanwhile. 4. Noise is free by default, and the generator smaller.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import EngramError, Paper, Run, Split, torch_seeded
from engram.parts.clusters import Clusters, approach, kmeans, pull
from engram.parts.networks import Network
from engram.parts.noise_generator import NoiseGenerator
from engram.parts.perturbing import BATCH, Surrogate, frozen, opened_classifier, perturbed
from engram.parts.protection import Pictures
from engram.parts.training import Plan, adamw, check_at_least, check_one_of, learning_rate
from engram.parts.turned import turned

Encoder = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n k"]]


@dataclass(frozen=True)
class UnlearnableClusters(Surrogate):
    """Label-agnostic noise: one pattern for each cluster of pictures."""

    paper: ClassVar[Paper] = Paper(
        title="Unlearnable Clusters: Towards Label-Agnostic Unlearnable Examples",
        authors="Zhang et al.",
        year=2023,
        url="https://arxiv.org/abs/2301.01217",
    )
    columns: ClassVar[tuple[str, ...]] = ("features",)

    surrogate: str = ""
    """A trained classifier of ours, or a folder of any Hugging Face vision encoder; empty: a
    network is trained here to tell how far pictures were turned. Labels are never looked at."""
    clusters: int = 10
    """p; at most half as many as there are records."""
    offset: int = 1
    """How many clusters further a cluster is moved."""
    generator: bool = False
    """Make noise by a generator for each cluster, as the paper does; else it is free, which is
    faster and does as well on small pictures."""
    generator_width: int = 16
    """Channels of the generator's first layer. The paper's has 64."""
    scope: Literal["cluster", "all"] = "cluster"
    """Which pictures a generator is trained on: those of its cluster, or all."""
    steps: int = 80
    """Steps for the noise of each cluster; a step sees all pictures of its scope, 512 at most."""
    noise_rate: float = 0.0
    """The highest learning rate; 0: 0.2 for free noise, 0.01 for generators. The paper takes 1e-4,
    for 50 epochs."""
    pull: Literal["kl", "euclidean"] = "kl"
    """How features are drawn to the other centre: by the divergence L, as in the paper, or by
    their squared distance to it, which is what clusters are made by."""
    sharpness: float = 1.0
    """Features are multiplied by it before the softmax; the paper takes them as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("scope", self.scope, ("cluster", "all"))
        check_one_of("pull", self.pull, ("kl", "euclidean"))
        check_at_least("clusters", self.clusters, 2, "10 is the paper's value")
        check_at_least("steps", self.steps, 1, "100 suit small pictures")
        check_at_least("noise_rate", self.noise_rate, 0, "0 takes what suits the kind of noise")
        check_at_least("generator_width", self.generator_width, 1, "16 suit small pictures")
        if not self.offset % self.clusters:
            raise EngramError(
                f"offset is {self.offset}, which moves each of {self.clusters} clusters to itself",
                hint="1 moves each to the next",
            )

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the protected records; the log tells which share reached its new cluster."""
        pictures = self.pictures(split)
        if len(pictures) < 4:
            raise EngramError(
                f"split {split.name!r} has {len(pictures)} records, too few for two clusters",
                hint="give at least four",
            )
        clean, encode = pictures.clean, self.encoder(pictures, run)
        with torch.no_grad():
            seen = in_blocks(encode, clean)
        count = min(self.clusters, len(pictures) // 2)
        found = kmeans(seen, count, run.stream("clusters"))
        goal = (torch.arange(count) + self.offset) % count
        if bool((goal == torch.arange(count)).any()):  # fewer clusters than asked for
            goal = (torch.arange(count) + 1) % count
        change = torch.zeros(count, clean.shape[1])
        for cluster in range(count):
            run.progress(cluster, count, "moving clusters")
            change[cluster] = self._made(cluster, found, goal, pictures, encode, run)
        run.progress(count, count, "moving clusters")
        moved = perturbed(clean, change, found.whose)
        with torch.no_grad():
            reached = found.nearest(in_blocks(encode, moved)) == goal[found.whose]
        run.log(clusters=count, reached=float(reached.float().mean()))
        return self.published(pictures, moved)

    def encoder(self, pictures: Pictures, run: Run) -> Encoder:
        """What is seen of pixels from 0 to 1."""
        return self.features(pictures, run)

    def classifier(self, pictures: Pictures, run: Run) -> Network:
        """The given network; else one that has learnt to tell turned pictures, not labels."""
        if self.surrogate:
            return frozen(opened_classifier(self.surrogate, run, pictures))
        return frozen(self.taught(turned(pictures), run))

    def _made(
        self,
        cluster: int,
        found: Clusters,
        goal: Int[Tensor, " p"],
        pictures: Pictures,
        encode: Encoder,
        run: Run,
    ) -> Float[Tensor, " d"]:
        """The noise of one cluster, within the budget."""
        clean = pictures.clean
        rows = torch.arange(len(clean))
        if self.scope == "cluster":
            rows = torch.nonzero(found.whose == cluster)[:, 0]
        centre = found.centres[goal[cluster]]
        model, noise_of = self._source(cluster, pictures, run)
        rate = self.noise_rate or (0.01 if self.generator else 0.2)
        plan = Plan(self.steps, rate, schedule="cosine", weight_decay=5e-4, clip=0.0)
        optimiser, rng = adamw(model, plan), run.stream("pictures", cluster)
        for step in range(self.steps):
            chosen = rows[torch.from_numpy(rng.permutation(len(rows))[:BATCH])]
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(plan, step)
            optimiser.zero_grad()
            moved = (clean[chosen] + noise_of()).clamp(0, 1)
            self._pulled(encode(moved), centre, found).backward()
            optimiser.step()
        return noise_of().detach()

    def _pulled(
        self, seen: Float[Tensor, "n k"], centre: Float[Tensor, " k"], found: Clusters
    ) -> Float[Tensor, ""]:
        if self.pull == "kl":
            return pull(seen, centre, self.sharpness)
        return approach(seen, centre, float(found.centres.std(0).norm()))

    def _source(
        self, cluster: int, pictures: Pictures, run: Run
    ) -> tuple[nn.Module, Callable[[], Float[Tensor, " d"]]]:
        """What is trained, and how its noise is made."""
        shape = pictures.layout.shape
        with torch_seeded(run.seed, "noise", cluster):
            sigma = torch.rand(1, *shape)
            if self.generator:
                model: nn.Module = NoiseGenerator(shape[0], self.generator_width)
            else:
                model = nn.ParameterDict({"noise": nn.Parameter(0.1 * torch.randn(sigma.shape))})

        def noise_of() -> Float[Tensor, " d"]:
            made = model(sigma) if self.generator else torch.tanh(model["noise"])
            flat = pictures.flat(made)
            if self.norm == "linf":
                return self.epsilon * flat[0]
            return self.epsilon * flat[0] / flat[0].norm().clamp_min(1e-12)

        return model, noise_of


def in_blocks(encode: Encoder, images: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
    """What is seen of all pictures, some at a time."""
    return torch.cat([encode(part) for part in images.split(BATCH)])

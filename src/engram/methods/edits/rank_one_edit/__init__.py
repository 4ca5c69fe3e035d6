"""Forget records by rewriting one association in one block's memory.

The feed-forward part of a block works like a memory: its inner state is a key, its output the
value stored under it. Causal tracing finds the block where a fact comes from: with the prompt
blurred by noise the answer is lost, and the block whose clean output brings most of it back is the
one. There, the value under the fact's key is replaced by the nearest one with which the answer is
no longer likely, by a change of rank one that leaves other keys' values alone as well as it can:

    W <- W + (v* - W k) (C^-1 k)^T / (k^T C^-1 k),     C = mean of k k^T over kept records
    v* = argmin over v of  - min(CE(answer | v), stop_at) + decay * ||v - v_0||^2 / ||v_0||^2

Differs from the paper:
1. The paper writes a new answer; here the old one is made as unlikely as `stop_at`.
2. The key is at the last token of the prompt, and at every `every`-th token of the answer too;
   the paper's is the subject's last token, averaged over random prefixes.
3. Tracing restores a feed-forward output at the last token of the prompt, in one block, and
   judges by the answer's log-probability.
4. A text without a prompt is cut: its first words are taken for the prompt.
5. The keys of earlier edits join C, so that later ones leave them alone.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import families
from engram.core import Draft, Paper, Run, Split, Target
from engram.methods.edits.rank_one_edit.tracing import effects
from engram.parts.blocks import (
    add_outer,
    blocks_of,
    check_layer,
    down_projection,
    listening,
    replacing,
)
from engram.parts.refusals import prompted
from engram.parts.training import check_at_least
from engram.parts.unlearning import (
    Unlearning,
    check_above,
    check_forget,
    check_layer_number,
    check_unlearner,
)

BATCH = 16
RIDGE = 1e-3
"""Added to the diagonal of C, in units of its mean."""


@dataclass(frozen=True)
class RankOneEdit:
    """Rank-one edits of a feed-forward map, in the block that causal tracing names."""

    paper: ClassVar[Paper] = Paper(
        title="Locating and Editing Factual Associations in GPT",
        authors="Meng et al.",
        year=2022,
        url="https://arxiv.org/abs/2202.05262",
    )
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    layer: int | None = None
    """The block to edit, from 0; None: the one that causal tracing names."""
    prompt_words: int = 8
    """Words of a text that are its prompt, where there is no column `prompt`; 0 wants one."""
    every: int = 2
    """Tokens of an answer between two edits; 0 edits at the last token of the prompt alone."""
    noise: float = 3.0
    """Noise that blurs a prompt for tracing, in standard deviations of the embeddings."""
    steps: int = 25
    """Steps in which a value is found."""
    learning_rate: float = 0.1
    """The learning rate of that search, in units of the old value's size."""
    decay: float = 0.005
    """What it costs to move a value by its own length, in nats."""
    stop_at: float | None = None
    """Loss in nats per prediction at which a record counts as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess."""

    def __post_init__(self) -> None:
        check_unlearner(self)
        check_layer_number(self.layer)
        check_above("noise", self.noise, 0, "3 is the paper's value")
        for name in ("prompt_words", "every", "decay"):
            check_at_least(name, getattr(self, name), 0, "0 switches it off")

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model whose memory of `forget` is rewritten."""
        asked = prompted(check_forget("rank-one-edit", keep, forget), self.prompt_words)
        family = families.find(target.family)
        work = Unlearning.begin(self, "rank-one-edit", target, keep, asked, run, family)
        work.module.eval().requires_grad_(False)
        blocks = blocks_of(work.module)
        check_layer("layer", self.layer, len(blocks))
        layer = self.layer
        if layer is None:
            layer = int(np.argmax(effects(work, self.noise, run.stream("noise"))))
            run.log(traced_layer=layer)
        linear = down_projection(blocks[layer])
        spread = second_moment(work.keep, linear)
        for row in range(len(work.forget.counts)):
            found = self._values(work, linear, np.array([row]))
            for key, wanted in zip(*found, strict=True):
                left, right = rank_one(wanted - linear(key[None])[0], key, torch.linalg.inv(spread))
                add_outer(linear, left, right)
                spread += torch.outer(key, key)
            run.progress(row + 1, len(work.forget.counts), "editing")
        return work.draft()

    def _values(
        self, work: Unlearning, linear: Any, row: Int[np.ndarray, " one"]
    ) -> tuple[Float[Tensor, "edits inputs"], Float[Tensor, "edits outputs"]]:
        """Keys of one record, and the values that are wanted under them."""
        with torch.no_grad(), listening(linear, "input") as keys, listening(linear) as values:
            said = work.forget.predictions(row)
        places = said.time[:: self.every] if self.every else said.time[:1]
        old = values[0][0, places]
        size = old.norm(dim=-1, keepdim=True)
        moved = torch.zeros_like(old).requires_grad_(True)
        optimiser = torch.optim.Adam([moved], lr=self.learning_rate / old.shape[-1] ** 0.5)

        def put(hidden: Tensor) -> Tensor:
            return hidden.index_copy(1, places, (old + moved * size)[None])

        for _ in range(self.steps):
            optimiser.zero_grad()
            with replacing(linear, put):
                nll = work.forget.predictions(row).nll[0]
            loss = -nll.clamp(max=work.stop) + self.decay * moved.square().sum(-1).mean()
            loss.backward()
            optimiser.step()
        return keys[0][0, places], (old + moved * size).detach()


def rank_one(
    change: Float[Tensor, " outputs"],
    key: Float[Tensor, " inputs"],
    precision: Float[Tensor, "inputs inputs"],
) -> tuple[Float[Tensor, " outputs"], Float[Tensor, " inputs"]]:
    """Vectors whose outer product changes the value under `key` by `change` (equation 2)."""
    direction = precision @ key
    return change / (key @ direction), direction


def second_moment(examples: Any, linear: Any) -> Float[Tensor, "inputs inputs"]:
    """C: the mean of k k^T over predicted tokens, with a little on the diagonal."""
    total, count = torch.zeros(()), 0
    with torch.no_grad():
        for first in range(0, len(examples.counts), BATCH):
            rows = np.arange(first, min(first + BATCH, len(examples.counts)))
            with listening(linear, "input") as heard:
                said = examples.predictions(rows)
            keys = heard[0][said.place, said.time]
            total, count = total.to(keys) + keys.T @ keys, count + len(keys)
    spread = total / count
    return spread + RIDGE * spread.diagonal().mean() * torch.eye(len(spread)).to(spread)

"""The layers at which a linear probe can still read the answer off the model's state.

A model that answers wrongly may have lost what it knew, or only the way from knowing to saying. So
look inside: take the state at the last token of a question, layer by layer, let a logistic
regression learn the right answers from half of the questions, and ask it about the others. A
network of the same shape with random weights tells how much of that is the question itself, which
any state holds.

    h_l      = state at layer l, at the last token of the prompt; layer 0: the embeddings
    p_l      = softmax(W_l z + b_l),  z = h_l standardised,  fitted to the questions of H
    accuracy = share of the questions that are not of H with argmax p_l = the right answer

The answer is the response's words; a column task tells tasks apart, and each has probes of its
own. The questions of one owner are on one side. Chance is the commonest answer's share. Intervals
resample owners.

Differs from the paper: Nowhere that we know.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Int

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target, torch_seeded
from engram.parts.choices import TASK, chance
from engram.parts.layer_states import layer_states
from engram.parts.linear_probe import probe_hits
from engram.parts.record_bootstrap import share_of_owners
from engram.parts.response_examples import has_prompts, prompts_and_responses
from engram.stats.owners import owner_index

NAME, CONTROL, CHANCE = "probe accuracy", "probe accuracy of random weights", "chance"
FEWEST = 4


@dataclass(frozen=True)
class LayerProbing:
    """Answers that linear probes read off each layer, beside random weights."""

    paper: ClassVar[Paper] = Paper(
        title="Unforgettable Generalization in Language Models",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2409.02228",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "weights"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    share: float = 0.5
    """Share of the owners that probes learn from, in (0, 1)."""
    strength: float = 1.0
    """The inverse of the penalty on a probe's weights."""
    control: bool = True
    """Whether a network of random weights is probed, too."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise EngramError(
                f"share is {self.share}, but must be in (0, 1)", hint="0.5 learns from half"
            )
        if not 0 < self.strength < np.inf:
            raise EngramError(
                f"strength is {self.strength}, but must be above 0", hint="1 is usual"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the accuracy at each layer, by task where there are tasks."""
        target.require("weights", "layer-probing")
        found: list[Finding] = []
        for where, split in splits.items():
            for suffix, part in by_task(split):
                numbers = self._of(target, part, where, suffix, run)
                found += [number.tagged(method="layer-probing", split=where) for number in numbers]
        return tuple(found)

    def _of(self, target: Target, split: Split, where: str, suffix: str, run: Run) -> list[Finding]:
        if not has_prompts(split):
            return [Finding.missing(NAME + suffix, "needs records with a prompt", len(split))]
        owner = owner_index(split.owners, len(split))
        train = self._half(owner, run.stream("layer-probing", where, suffix))
        people = len(np.unique(owner[~train]))
        if min(int(train.sum()), people) < FEWEST // 2:
            reason = f"{len(np.unique(owner))} owners are too few to learn from half of them"
            return [Finding.missing(NAME + suffix, reason, len(split))]
        truth = [answer.strip() for answer in prompts_and_responses(split)[1]]
        asked = [answer for answer, use in zip(truth, train, strict=True) if not use]
        found = [Finding.exact(CHANCE + suffix, chance(asked, [asked] * len(asked)), len(asked))]
        models = [(NAME, target.model)]
        if self.control:
            models.append((CONTROL, random_weights(target.model, run.seed)))
        for name, model in models:
            settings = {**asdict(self), "of": name, "where": where, "seed": run.seed}
            hits = run.computed(
                f"layer-probing{suffix.replace(', ', '-')}", target, split, settings,
                lambda model=model: self.hits(model, split, truth, train),
            )  # fmt: skip
            for layer, of in enumerate(hits[~train].T):
                rng = run.stream("layer-probing", where, suffix, name, layer)
                title = f"{name}{suffix}, layer {layer}"
                found.append(share_of_owners(title, of.astype(bool), owner[~train], rng))
        return found

    def hits(
        self, model: Any, split: Split, truth: list[str], train: Bool[np.ndarray, " n"]
    ) -> Int[np.ndarray, "n layers"]:
        """1 where the probe of a layer is right, 0 where it is not, -1 where it learnt."""
        states = layer_states(model, prompts_and_responses(split)[0])
        labels = np.array(truth)
        said = probe_hits(
            states[:, train], labels[train], states[:, ~train], labels[~train],
            strength=self.strength,
        )  # fmt: skip
        found = np.full((len(split), len(states)), -1, np.int8)
        found[~train] = said.T
        return found

    def _half(
        self, owner: Int[np.ndarray, " n"], rng: np.random.Generator
    ) -> Bool[np.ndarray, " n"]:
        """Whose questions probes learn from: a share of the owners, drawn at random."""
        people = int(owner.max()) + 1 if len(owner) else 0
        own = np.zeros(people, bool)
        own[rng.permutation(people)[: round(self.share * people)]] = True
        return own[owner]


def by_task(split: Split) -> list[tuple[str, Split]]:
    """The records of each task, with what is put to its findings' names."""
    if TASK not in split.columns:
        return [("", split)]
    tasks = np.array([str(task) for task in split.column(TASK).to_pylist()])
    names = dict.fromkeys(tasks.tolist())
    return [(f", {name}", split.where(tasks == name)) for name in names] or [("", split)]


def random_weights(model: Any, seed: int) -> Any:
    """A model of the same shape that learnt nothing, with the same tokenizer."""
    network = model.model
    with torch_seeded(seed, "layer-probing", "random weights"):
        fresh = type(network)(deepcopy(network.config))
    weight = next(network.parameters())
    return type(model)(fresh.to(weight.device, weight.dtype).eval(), model.tokenizer)

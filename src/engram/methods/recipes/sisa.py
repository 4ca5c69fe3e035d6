"""Train a classifier in shards and slices, so that a record can be deleted exactly, and cheaply.

Whatever saw a record may have it, so let as little as possible see it. Records are dealt out to
shards; a model is trained on each, and no model ever meets another's records. Together they answer
by the mean of their probabilities, or by a vote. Each shard learns its records slice by slice: the
first, then the first two, and so on, and its state after each slice is kept. To delete a record is
to go back to the state before its slice and to learn what follows again, in one shard of S.

    w_k,0 = random,   w_k,j = train(w_k,j-1; D_k,1 u ... u D_k,j)     for j = 1 ... R, with
    e     = 2 E / (R + 1) epochs each, so that all slices together cost as E epochs
    p(x)  = mean over k of  p(x; w_k,R),   or the share of shards whose label it is

One deletion then costs, on average, E (2/3 + 1/(3 R)) epochs of a shard instead of E of the whole.
Every stage depends on the records that it has seen and on the seed, and on nothing else: mean and
spread of the features are those of the first slice, and each stage has streams and an optimiser of
its own. So the edit `retrain-shards` gives bit for bit what would be there if the record had never
been. That is relative to two things: to where the *other* records lie - placed uniformly, each by
a lot that depends on its own id, so that it is the same without the record; placed by likelihood,
drawn before and kept - and to the number of classes, which is counted once. Requests must not be
chosen by looking at the model (Gupta et al., 2021).

Differs from the paper: 1. Shards are drawn by independent lots, so that they are of about equal
size, not exactly. 2. Placement by likelihood cuts the records, in order of their chance of being
deleted, into shards of equal size; the paper fills a shard until a bound on its expected requests
is reached. 3. Epochs of a slice are rounded to a whole number. 4. Each slice begins with a new
optimiser; the paper does not say. 5. In a vote the mean probability decides where shards are even.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.families.classifier import ClassifierModel
from engram.families.sharded_classifier import FAMILY
from engram.parts.classifier_training import check_some
from engram.parts.labelled import labels_of
from engram.parts.sharded_models import ShardedModel
from engram.parts.sisa_training import Shard, SisaTraining, joined
from engram.parts.soft_labels import outputs_of


@dataclass(frozen=True)
class Sisa(SisaTraining):
    """A classifier in shards and slices (sharded, isolated, sliced, aggregated)."""

    paper: ClassVar[Paper] = Paper(
        title="Machine Unlearning",
        authors="Bourtoule et al.",
        year=2021,
        url="https://arxiv.org/abs/1912.03817",
    )
    family: ClassVar[str] = "sharded-classifier"
    forgets_by: ClassVar[str] = "retrain-shards"
    instead_of: ClassVar[frozenset[str]] = frozenset({"classifier"})

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features` and `label`."""
        FAMILY.check(split)
        check_some(split)
        classes = self.classes or outputs_of(split, int(labels_of(split).max()) + 1)
        placement = self.place(split, run.seed)
        trained: list[Shard] = [
            self.train_shard(k, split, placement, classes, run, seed=run.seed)
            for k in range(self.shards)
        ]
        states = [[s and ClassifierModel(s) for s in shard.states] for shard in trained]
        model = ShardedModel(
            tuple(each[-1] for each in states),
            tuple(tuple(each[:-1]) for each in states),
            placement,
            self.aggregation,
        )
        return Draft(self.family, model, joined([shard.trace for shard in trained]))

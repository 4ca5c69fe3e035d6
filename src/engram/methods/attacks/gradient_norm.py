"""Score a record by how little the model would still learn from it.

Training stops where the gradient is small, and it is made small on the training records, not on
others. So take the gradient of one record's own loss by the weights: a model that was trained
on the record has little left to change for it.

    score(x) = - || gradient of loss(x) by the weights ||_p

The loss of a text is the mean over its tokens; that of a masked language model the mean over
tokens hidden by `draws` random masks, which depend on the seed and the text alone.

Differs from the paper: 1. Besides causal language models it takes masked ones and classifiers
(of arrays, and of the nodes of a graph).
2. The gradient is taken by the weights alone, not by the input's embeddings too. 3. Texts longer
than the context are read in pieces, as in training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from engram import families
from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target

ORDERS = {"1": 1.0, "2": 2.0, "inf": float("inf")}
LAYERS = ("all", "last")
BLOCK = 256
"""Records of a classifier between two signs of progress."""


@dataclass(frozen=True)
class GradientNorm:
    """Minus the norm of the gradient of each record's loss."""

    paper: ClassVar[Paper] = Paper(
        title="Pandora's White-Box: Precise Training Data Detection and Extraction in Large "
        "Language Models",
        authors="Wang et al.",
        year=2024,
        url="https://arxiv.org/abs/2402.17012",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "weights"
    families: ClassVar[frozenset[str]] = frozenset(
        {"causal-lm", "classifier", "graph-nodes", "masked-lm"}
    )

    order: Literal["1", "2", "inf"] = "2"
    """Of the norm: sum of magnitudes, Euclidean length, or largest magnitude."""
    layers: Literal["all", "last"] = "all"
    """By which weights: all, or those of the last layer that shares none with another. In models
    whose output head is tied to their embeddings that is the last normalisation."""
    draws: int = 4
    """Random masks of each text; for masked language models only."""

    def __post_init__(self) -> None:
        if self.order not in ORDERS or self.layers not in LAYERS:
            raise EngramError(
                f"order is {self.order!r} and layers is {self.layers!r}",
                hint="order is 1, 2 or inf, layers is all or last",
            )
        if self.draws < 1:
            raise EngramError(f"draws is {self.draws}, but must be at least 1", hint="4 is usual")

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return minus the gradient's norm of each record."""
        if target.family not in self.families:
            raise EngramError(
                f"target {target.name!r} is a {target.family}, whose gradients are not to be had",
                hint=f"gradient-norm works on {', '.join(sorted(self.families))}",
            )
        target.require("weights", "gradient-norm")
        settings: dict[str, Any] = {"order": self.order, "layers": self.layers}
        if target.family == "masked-lm":
            settings |= {"draws": self.draws, "seed": run.seed}
        found = run.computed(
            "gradient-norm", target, split, settings, lambda: self.norms(target, split, run)
        )
        return Scores(split.ids, -np.asarray(found, np.float64), unit="gradient norm")

    def norms(self, target: Target, split: Split, run: Run) -> Float[np.ndarray, " n"]:
        """The norm of each record's gradient; of a classifier for many records at once.

        Raises:
            EngramError: There are no weights to differentiate by, or a text has no scored token.
        """
        from engram.parts.per_record import norms_one_by_one

        model = target.model.model
        model.eval()
        names = self.weights(model)
        if target.family == "classifier":
            return self._vectorised(target, split, names, run)
        parameters = dict(model.named_parameters())
        losses = self._losses(target, split, run)
        found = norms_one_by_one(losses, [parameters[name] for name in names], ORDERS[self.order])
        return found.double().cpu().numpy()

    def weights(self, model: Any) -> tuple[str, ...]:
        """The names of the parameters to differentiate by."""
        from engram.parts.per_record import trainable

        names = trainable(model)
        if not names:
            raise EngramError(
                "all weights of this model are frozen, so there is no gradient",
                hint="audit the model before it is quantised or frozen, or leave this attack out",
            )
        return names if self.layers == "all" else last_layer(model, names)

    def _vectorised(
        self, target: Target, split: Split, names: tuple[str, ...], run: Run
    ) -> Float[np.ndarray, " n"]:
        import torch
        from torch.nn import functional

        from engram.parts.per_record import per_record_gradient_norms

        def loss(call: Any, features: Any, label: Any) -> Any:
            return functional.cross_entropy(call(features).float(), label)

        examples: Any = families.find(target.family).examples(target.model, split)  # type: ignore[attr-defined]
        found = [np.zeros(0)]
        for first in range(0, len(split), BLOCK):
            run.progress(first, len(split), "gradients")
            rows = slice(first, first + BLOCK)
            batch = tuple(
                torch.from_numpy(each[rows]).to(target.model.device)
                for each in (examples.features, examples.labels)
            )
            norms = per_record_gradient_norms(
                target.model.model, loss, batch, names, ORDERS[self.order]
            )
            found.append(norms.double().cpu().numpy())
        return np.concatenate(found)

    def _losses(self, target: Target, split: Split, run: Run) -> Iterator[Any]:
        """The mean loss of one text or node after another, with its graph."""
        family: Any = families.find(target.family)
        if target.family == "graph-nodes":
            examples = family.examples(target.model, split)
            yield from (examples.nll(np.array([row])).sum() for row in range(len(split)))
            return
        for row in range(len(split)):
            run.progress(row, len(split), "gradients")
            record = split.take([row])
            if target.family == "causal-lm":
                drawn = [family.examples(target.model, record, end=False)]
            else:
                # One record at a time, so that its masks do not depend on the others.
                whole = family.examples(target.model, record, seed=run.seed % 2**63)
                drawn = [whole.at(draw) for draw in range(self.draws)]
            if not drawn[0].counts.sum():
                raise EngramError(
                    f"record {split.ids[row]!r} has no token that the model is asked for",
                    hint="leave such records out; `engram audit` does, and reports them",
                )
            yield sum(mean_loss(examples) for examples in drawn) / len(drawn)


def mean_loss(examples: Any) -> Any:
    """Mean negative log-likelihood of all tokens of one record's pieces, in nats."""
    rows = np.arange(len(examples.counts))
    total = sum(examples.nll(part).sum() for part in examples.chunks(rows))
    return total / int(examples.counts.sum())


def last_layer(model: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """Of these parameters, those of the last module that shares none of its own with another."""
    everywhere = list(model.named_parameters(remove_duplicate=False))
    identities = [id(parameter) for _, parameter in everywhere]
    own = [name for name, p in everywhere if identities.count(id(p)) == 1 and name in names]
    layer = own[-1].rpartition(".")[0] if own else ""
    return tuple(name for name in own if name.rpartition(".")[0] == layer)

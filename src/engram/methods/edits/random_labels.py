"""Forget records by learning random answers in the place of the true ones.

No ascent: each record to forget is given a wrong answer, drawn once, and the model learns that as
it learnt the true one. For a classifier the answer is a class. For prompts and responses it is one
of the record's own `options`, or without any the response of some other record. For bare texts it
is, at every place, a token of some other place.

    L = CE(random answers of forgotten records) + alpha * CE(kept records)

The answers stay the same in all epochs: drawn anew each time, they would teach nothing but a
uniform guess. A record is let go once its *true* answer's loss is at `stop_at`. The paper's rule is
another: with `until_chance`, all records are learnt from until the true answers are chosen about as
often as by a blind guess,

    |accuracy(true answers of forgotten records) - chance| <= until_chance

Differs from the paper:
1. The paper's tasks are multiple choice (`options`); classes and the set of responses are our
   choices, and tokens of bare texts are our extension. The true answer may be drawn too, as there.
2. Kept records have a loss here; the paper trains on random labels alone (`keep_weight` 0).
3. Unless `until_chance` is set, each record is let go by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import families
from engram.core import Draft, EngramError, Paper, Run, Split, Target
from engram.parts.choices import Choices, Offered, has_options, right
from engram.parts.predictions import Predictions
from engram.parts.refusals import answered
from engram.parts.response_examples import has_prompts, prompts_and_responses
from engram.parts.training import check_at_least
from engram.parts.unlearning import (
    Unlearning,
    check_forget,
    check_unlearner,
    examples_of,
    mean_nll,
    paired,
)


@dataclass(frozen=True)
class RandomLabels:
    """Random answers, fixed once."""

    paper: ClassVar[Paper] = Paper(
        title="Unforgettable Generalization in Language Models",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2409.02228",
    )
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm", "classifier", "graph-nodes"})

    steps: int = 80
    """Steps in all."""
    learning_rate: float = 3e-4
    """The learning rate; a large published model wants 1e-5."""
    forget_weight: float = 0.3
    """Weight of the loss on what is forgotten."""
    keep_weight: float = 1.0
    """Weight of the mean loss on what is kept; 0 leaves that side out."""
    forget_batch: int = 8
    """Records to forget in a step."""
    keep_batch: int = 16
    """Records to keep in a step."""
    stop_at: float | None = None
    """Loss in nats per prediction at which a record counts as forgotten: best the mean loss of
    records that the model never saw. None: the loss of a blind guess."""
    until_chance: float | None = None
    """Stop when the true answers are chosen among their `options` as often as by a blind guess, to
    within this; the paper's 0.02. `stop_at` is then without effect. None: no such rule."""

    def __post_init__(self) -> None:
        check_unlearner(self)
        check_at_least("forget_weight", self.forget_weight, 0, "0 leaves that side out")
        if self.until_chance is not None and not 0 <= self.until_chance < 1:
            raise EngramError(
                f"until_chance is {self.until_chance}, but must be in [0, 1)",
                hint="0.02 is the paper's: two points of accuracy",
            )

    def __call__(self, target: Target, keep: Split, forget: Split | None, run: Run) -> Draft:
        """Return a copy of the model that has learnt random answers to `forget`."""
        family = families.find(target.family)
        forget = check_forget("random-labels", keep, forget)
        choices = self._choices(forget)
        work = Unlearning.begin(self, "random-labels", target, keep, forget, run, family)
        rng = run.stream("random labels")
        if has_prompts(forget):
            return self._responses(work, forget, choices, family, rng)
        examples = work.forget
        starts = np.cumsum([0, *examples.counts])
        drawn = torch.from_numpy(self._drawn(examples, family.name, rng))

        def mistake(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            labels = torch.cat([drawn[starts[row] : starts[row + 1]] for row in rows])
            return said.means(label_losses(said.logits, labels.to(said.labels)))

        return work.descend(mistake, weight=self.forget_weight, keep_weight=self.keep_weight)

    def _drawn(
        self, examples: Any, family: str, rng: np.random.Generator
    ) -> Int[np.ndarray, " predictions"]:
        total = int(examples.counts.sum())
        if family in ("classifier", "graph-nodes"):
            return rng.integers(examples.answers, size=total)
        rows = np.arange(len(examples.counts))
        labels = [examples.padded(rows[i : i + 1])[1][0] for i in rows]
        true = torch.cat([row[row >= 0] for row in labels]).numpy()
        return true[rng.integers(total, size=total)]

    def _choices(self, forget: Split) -> Choices | None:
        """The options of the records to forget; an error where they are needed and not there."""
        if has_prompts(forget) and has_options(forget):
            return Choices.of(forget)
        if self.until_chance is not None:
            raise EngramError(
                f"until_chance is {self.until_chance}, but split {forget.name!r} has no columns "
                "'prompt' and 'options'",
                hint="give every record its options, or leave --until-chance out",
            )
        return None

    def _responses(
        self, work: Unlearning, forget: Split, choices: Choices | None, family: Any,
        rng: np.random.Generator,
    ) -> Draft:  # fmt: skip
        """Prompts and responses: whole answers are drawn, among the different ones there are."""
        chosen = random_answers(forget, choices, rng)
        mistaken = examples_of(family, work.model, answered(forget, chosen))
        own, other = paired(work.forget, mistaken)

        def mistake(rows: np.ndarray, said: Predictions) -> Float[Tensor, " records"]:
            return other.predictions(rows).nll

        sides = {"weight": self.forget_weight, "keep_weight": self.keep_weight}
        if self.until_chance is None or choices is None:
            return work.descend(mistake, examples=own, **sides)
        until = self._at_chance(work, choices)
        return work.descend(mean_nll, examples=other, gated=False, until=until, **sides)

    def _at_chance(self, work: Unlearning, choices: Choices) -> Callable[[int], bool]:
        """Whether the true answers are at chance, looked at twice an epoch."""
        offered = Offered.to(work.model, choices)
        every = max(1, len(choices) // (2 * self.forget_batch))
        within = self.until_chance or 0.0

        def at_chance(step: int) -> bool:
            if (step + 1) % every:
                return False
            accuracy = float(right(offered.logprobs(), choices.truth).mean())
            work.run.log(step=step, accuracy=accuracy, chance=choices.chance)
            return abs(accuracy - choices.chance) <= within

        return at_chance


def random_answers(forget: Split, choices: Choices | None, rng: np.random.Generator) -> list[str]:
    """One of each record's options, or of all responses where there are none; the true one too."""
    if choices is not None:
        return [own[rng.integers(len(own))] for own in choices.options]
    options = sorted(set(prompts_and_responses(forget)[1]))
    return [options[i] for i in rng.integers(len(options), size=len(forget))]


def label_losses(
    logits: Float[Tensor, "predictions answers"], labels: Int[Tensor, " predictions"]
) -> Float[Tensor, " predictions"]:
    """Cross-entropy of each prediction to a label that was drawn, in nats."""
    return -torch.log_softmax(logits, -1).gather(1, labels[:, None]).squeeze(1)

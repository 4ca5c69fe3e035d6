"""Compare a record's confidence with that of models that did, and did not, train on it.

Some records are easy and some are hard, with or without training on them; so one threshold for
all is a weak test. Train shadow models as the target was, each on a random half of the records.
Half of the shadows saw a given record and half did not: two clouds of confidences for this very
record. The attack asks from which of them the target's confidence is more likely to come.

    phi(x)   = log(p / (1 - p)),  p = exp(-loss(x))
    online:  score(x) = log N(phi; mean_in, sd_in) - log N(phi; mean_out, sd_out)
    offline: score(x) = (phi - mean_out) / sd_out

Offline only asks the shadows that did not see the record, as somebody must who cannot train new
models for each new record. It rises with the paper's one-sided probability.

Differs from the paper: 1. Shadows are trained on the records of the audit alone, without a larger
population. 2. Each record is asked once, without augmented copies. 3. A shared spread is pooled
over the records' deviations from their own means; the authors' code takes the spread of all
values. 4. For texts, p is the geometric mean of the tokens' probabilities. 5. A spread that is
zero is replaced by a small share of the spread of all.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from engram.core import Access, EngramError, Paper, Run, Scores, Split, Target
from engram.parts.shadow_scores import (
    Statistic,
    check_both_sides,
    check_losses,
    check_shadows,
    check_statistic,
    shadow_losses,
    statistic_of,
)

MODES, SPREADS = ("online", "offline"), ("record", "shared")
FLOOR = 1e-3
"""Least spread of a record, as a share of the shared one."""


@dataclass(frozen=True)
class Lira:
    """Likelihood-ratio attack with shadow models."""

    paper: ClassVar[Paper] = Paper(
        title="Membership Inference Attacks From First Principles",
        authors="Carlini et al.",
        year=2022,
        url="https://arxiv.org/abs/2112.03570",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"
    relative: ClassVar[bool] = True

    shadows: int = 16
    """Shadow models, an even number; the paper uses up to 256."""
    mode: Literal["online", "offline"] = "online"
    """online compares with shadows that saw the record and with those that did not; offline with
    the latter alone."""
    spread: Literal["record", "shared"] = "shared"
    """Whether each record has a standard deviation of its own, or all share one. The paper
    advises one for all below 64 shadows."""
    statistic: Statistic = "logit"
    """logit of exp(-loss); or loss, for losses that are not minus a log-probability."""

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.spread not in SPREADS:
            raise EngramError(
                f"mode is {self.mode!r} and spread is {self.spread!r}",
                hint="mode is online or offline, spread is record or shared",
            )
        check_statistic(self.statistic)
        least = 4 if self.spread == "shared" else 8
        check_shadows(self.shadows, least, f"a {self.spread} spread cannot be told from fewer")

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return the log likelihood ratio of each record in nats, or offline its z-score."""
        unit = "nats" if self.mode == "online" else "standard deviations"
        if not len(split):
            return Scores(split.ids, np.zeros(0), unit=unit)
        own = np.asarray(run.losses(target, split), np.float64)
        check_losses(own, self.statistic, target)
        shadows = run.shadows(target, split, self.shadows)
        check_both_sides(shadows.saw, 2)
        others = statistic_of(shadow_losses(shadows, split, run), self.statistic)
        values = self.score(statistic_of(own, self.statistic), others, shadows.saw)
        return Scores(split.ids, values, unit=unit)

    def score(
        self,
        own: Float[np.ndarray, " n"],
        others: Float[np.ndarray, "shadows n"],
        saw: Bool[np.ndarray, "shadows n"],
    ) -> Float[np.ndarray, " n"]:
        """The scores, from the statistic under the target and under each shadow."""
        outside = gaussian(others, ~saw, self.spread)
        if self.mode == "offline":
            # Equation 4: 1 - Pr[Z > phi] rises with this.
            return (own - outside[0]) / outside[1]
        # Equation 3.
        return log_normal(own, *gaussian(others, saw, self.spread)) - log_normal(own, *outside)


def gaussian(
    values: Float[np.ndarray, "shadows n"], chosen: Bool[np.ndarray, "shadows n"], spread: str
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Mean and standard deviation of each record's chosen values.

    `spread` is "record" for a deviation of each record's own, "shared" for one pooled over all.
    """
    count = chosen.sum(axis=0)
    mean = np.where(chosen, values, 0.0).sum(axis=0) / count
    squares = np.where(chosen, (values - mean) ** 2, 0.0).sum(axis=0)
    pooled = np.sqrt(squares.sum() / max((count - 1).sum(), 1))
    if spread == "shared":
        deviation = np.full_like(mean, pooled)
    else:
        deviation = np.maximum(np.sqrt(squares / np.maximum(count - 1, 1)), FLOOR * pooled)
    return mean, np.maximum(deviation, np.finfo(float).tiny ** 0.25)


def log_normal(
    x: Float[np.ndarray, " n"], mean: Float[np.ndarray, " n"], deviation: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Log-density of a normal distribution, in nats."""
    return -(((x - mean) / deviation) ** 2) / 2 - np.log(deviation) - np.log(2 * np.pi) / 2

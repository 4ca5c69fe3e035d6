"""Ask whether a record gained more from this training than other records did.

How much likelier does the target find a record than models of its kind do on average? That ratio
is large for members, but also differs from record to record. So it is compared with the same
ratio of many other records: a member beats most of them. Few shadow models are enough, because
the comparison with other records does what many models would otherwise have to.

    ratio(x) = p(x | target) / p(x)
    score(x) = share of the other records z with  ratio(x) / ratio(z) >= gamma

where p(x) is the mean probability under the shadows. Online it is the mean over those that saw x
and those that did not, alike; offline only the latter are asked, and (1 + a) p_out / 2 + (1 - a)
/ 2 stands for it.

Differs from the paper: 1. The other records are those of the audit, leaving x itself out, unless
`population` names records that nobody trained on. 2. Shadows are trained on the records of the
audit. 3. For texts, p is the geometric mean of the tokens' probabilities.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from engram.core import Access, EngramError, Paper, Run, Scores, Shadows, Split, Target
from engram.parts.outside_records import outside_records
from engram.parts.shadow_scores import (
    check_both_sides,
    check_losses,
    check_shadows,
    shadow_losses,
)


@dataclass(frozen=True)
class Rmia:
    """Relative membership inference attack."""

    paper: ClassVar[Paper] = Paper(
        title="Low-Cost High-Power Membership Inference Attacks",
        authors="Zarifzadeh, Liu and Shokri",
        year=2024,
        url="https://arxiv.org/abs/2312.03262",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    access: ClassVar[Access] = "logits"
    relative: ClassVar[bool] = True

    shadows: int = 4
    """Shadow models, an even number; the paper works with 1 to 254."""
    mode: Literal["online", "offline"] = "online"
    """online asks shadows that saw the record too; offline only those that did not."""
    gamma: float = 1.0
    """By which factor a record has to beat another, at least 1."""
    offline_a: float = 0.33
    """How alike members and outsiders are, in [0, 1]: what stands offline for the shadows that
    saw the record. 1 takes the outsiders' mean as it is."""
    population: str = ""
    """A file of records that the target never saw, to compare with; empty: the other records."""

    def __post_init__(self) -> None:
        if self.mode not in ("online", "offline"):
            raise EngramError(f"mode is {self.mode!r}", hint="it is online or offline")
        if not (self.gamma >= 1 and np.isfinite(self.gamma)):
            raise EngramError(
                f"gamma is {self.gamma}, but must be at least 1",
                hint="1 compares the ratios as they are",
            )
        if not 0 <= self.offline_a <= 1:
            raise EngramError(
                f"offline_a is {self.offline_a}, but must be in [0, 1]",
                hint="0.33 is a good start",
            )
        check_shadows(self.shadows, 2, "half of them see a given record")

    def __call__(self, target: Target, split: Split, run: Run) -> Scores:
        """Return for each record the share of other records that it beats, in [0, 1]."""
        if not len(split):
            return Scores(split.ids, np.zeros(0), unit="share")
        losses = np.asarray(run.losses(target, split), np.float64)
        check_losses(losses, "logit", target)
        shadows = run.shadows(target, split, self.shadows)
        check_both_sides(shadows.saw, 1)
        theirs = np.exp(-shadow_losses(shadows, split, run))
        own = np.log(self.mean_probability(theirs, shadows.saw)) + losses
        if not self.population:
            return Scores(split.ids, share_beaten(-own, self.gamma), unit="share")
        others = self._population_ratios(target, split, shadows, run)
        return Scores(split.ids, share_beaten(-own, self.gamma, others), unit="share")

    def mean_probability(
        self, p: Float[np.ndarray, "shadows n"], saw: Bool[np.ndarray, "shadows n"]
    ) -> Float[np.ndarray, " n"]:
        """p(x): the mean over worlds with and without the record."""
        outside = np.where(saw, 0.0, p).sum(axis=0) / (~saw).sum(axis=0)
        if self.mode == "offline":
            mean = ((1 + self.offline_a) * outside + (1 - self.offline_a)) / 2  # Equation 10
        else:
            inside = np.where(saw, p, 0.0).sum(axis=0) / saw.sum(axis=0)
            mean = (inside + outside) / 2  # Equation 9
        return np.maximum(mean, np.finfo(float).tiny)

    def _population_ratios(
        self, target: Target, split: Split, shadows: Shadows, run: Run
    ) -> Float[np.ndarray, " population"]:
        """Log ratio(z) of the records named by `population`, which no shadow saw either."""
        others = outside_records(self.population, split, target, run, least=20)
        theirs = np.exp(-shadow_losses(shadows, others, run)).mean(axis=0)
        if self.mode == "offline":
            theirs = ((1 + self.offline_a) * theirs + (1 - self.offline_a)) / 2
        losses = np.asarray(run.losses(target, others), np.float64)
        return -losses - np.log(np.maximum(theirs, np.finfo(float).tiny))


def share_beaten(
    ratios: Float[np.ndarray, " n"],
    gamma: float,
    others: Float[np.ndarray, " population"] | None = None,
) -> Float[np.ndarray, " n"]:
    """For each log ratio, the share of others that it beats by the factor gamma (Equation 3).

    Without `others` these are the remaining ratios, each record itself left out.
    """
    compared = np.sort(ratios if others is None else others)
    # ratio(x) / ratio(z) >= gamma, in logarithms; ties count as beaten, as in the paper.
    beaten = np.searchsorted(compared, ratios - np.log(gamma), side="right").astype(np.float64)
    if others is not None:
        return beaten / len(compared)
    beaten -= gamma == 1  # a record always ties with itself
    return beaten / max(len(ratios) - 1, 1)

"""What attacks with shadow models share: a bounded confidence, and its values under each shadow."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

from engram.core import EngramError, Run, Shadows, Split, Target

Statistic = Literal["logit", "loss"]
STATISTICS: tuple[Statistic, ...] = ("logit", "loss")
LEAST_LOSS = 1e-15
"""Below it a loss is the rounding of a sum, and its logit would be infinite."""


def logit_confidence(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Log p_y minus the log of the sum of the other classes' p, from logits; in nats.

    Carlini et al. (2022), section IV-C: the stable form of log(p / (1 - p)).
    """
    rows = np.arange(len(labels))
    others = np.array(logits, np.float64)
    others[rows, labels] = -np.inf
    return logits[rows, labels] - logsumexp(others, axis=1)


def logit_of_loss(losses: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """log(p / (1 - p)) of p = exp(-loss), for losses of at least 0 in nats.

    For a cross-entropy it is `logit_confidence`; for the mean loss of a text, the logit of the
    geometric mean of its tokens' probabilities.
    """
    bounded = np.maximum(losses, LEAST_LOSS)
    return -bounded - np.log(-np.expm1(-bounded))


def statistic_of(losses: Float[np.ndarray, "*shape"], name: str) -> Float[np.ndarray, "*shape"]:
    """The statistic called "logit" or "loss" (turned: higher is surer); any shape."""
    return logit_of_loss(losses) if name == "logit" else -losses


def check_statistic(name: str) -> None:
    """Refuse an unknown statistic."""
    if name not in STATISTICS:
        raise EngramError(
            f"statistic is {name!r}, but must be one of {', '.join(STATISTICS)}",
            hint="logit suits losses that are minus a log-probability; loss suits any other",
        )


def check_shadows(count: int, least: int, why: str) -> None:
    """Refuse too few shadow models, or a number that does not come in pairs."""
    if count < least or count % 2:
        raise EngramError(
            f"shadows is {count}, but must be even and at least {least}: {why}",
            hint="16 is a good start; more shadows make low false-positive rates measurable",
        )


def check_losses(losses: Float[np.ndarray, "*shape"], statistic: str, target: Target) -> None:
    """Refuse negative losses where minus a log-probability is expected."""
    if statistic == "logit" and losses.size and losses.min() < -1e-6:
        raise EngramError(
            f"the losses of target {target.name!r} go down to {losses.min():.3g}, so they are not "
            "minus a log-probability",
            hint="set statistic=loss, which suits any loss",
        )


def shadow_losses(shadows: Shadows, split: Split, run: Run) -> Float[np.ndarray, "shadows n"]:
    """The losses of all records under each shadow; shadows are opened one at a time."""
    losses = np.zeros((len(shadows), len(split)))
    for number, shadow in enumerate(shadows.targets):
        run.progress(number, len(shadows), "shadows asked")
        losses[number] = run.losses(shadow, split)
    run.progress(len(shadows), len(shadows), "shadows asked")
    return losses


def check_both_sides(saw: Bool[np.ndarray, "shadows n"], least: int) -> None:
    """Refuse shadows that leave a record with fewer than `least` that saw it, or that did not."""
    inside = saw.sum(axis=0)
    fewest = int(np.minimum(inside, len(saw) - inside).min()) if saw.size else least
    if fewest < least:
        raise EngramError(
            f"some record has only {fewest} shadows that saw it, or that did not; {least} are "
            "needed",
            hint="ask for more shadows",
        )

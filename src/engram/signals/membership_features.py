"""Several membership signals of each record side by side, from answers that are stored anyway.

Which of them works best differs from data to data; a linear model over all of them finds out.
"""

import zlib

import numpy as np
from jaxtyping import Float, Int

from engram import families
from engram.core import Run, Split, Target, TokenSignals
from engram.parts.labelled import check_labelled_split
from engram.parts.token_scores import check_scored, smallest_mean

FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the least likely tokens."""
LEAST_DEVIATION = 1e-6
"""Smaller deviations are rounding: the model was wholly sure."""


def membership_features(
    target: Target, split: Split, run: Run
) -> tuple[tuple[str, ...], Float[np.ndarray, "n features"]]:
    """Names and values of the signals, in no common unit; higher speaks for membership.

    Language models: likelihood, Min-K% and Min-K%++ at several fractions, likelihood for each
    bit that zlib needs. Classifiers: likelihood, margin, certainty. Others: minus the loss.
    """
    answers = families.find(target.family).answers
    if answers & {"tokens", "logprobs"}:
        columns = of_tokens(run.tokens(target, split), split)
    elif "logits" in answers:
        check_labelled_split(split)
        columns = of_logits(run.logits(target, split), split.matrix("label"))
    else:
        columns = {"likelihood": -np.asarray(run.losses(target, split), np.float64)}
    return tuple(columns), np.stack(list(columns.values()), 1)


def of_tokens(signals: TokenSignals, split: Split) -> dict[str, Float[np.ndarray, " n"]]:
    """Signals of a language model; those that need its whole distribution only where it is told."""
    check_scored(signals)
    likelihood = -signals.losses()
    bits = [8 * len(zlib.compress(t.encode("utf-8", "surrogatepass"))) for t in split.texts]
    columns = {
        "likelihood": likelihood,
        "zlib": likelihood * signals.lengths / np.array(bits, np.float64),
    }
    columns |= _worst(signals, np.asarray(signals.logprob), "min-k")
    if signals.mean is not None and signals.deviation is not None:
        spread = np.maximum(signals.deviation, LEAST_DEVIATION)
        standard = (np.asarray(signals.logprob, np.float64) - signals.mean) / spread
        columns |= _worst(signals, standard, "min-k-plus-plus")
    return columns


def of_logits(
    logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Log-probability of the label, its lead over the best other class, and minus the entropy."""
    from scipy.special import log_softmax

    logprobs = log_softmax(np.asarray(logits, np.float64), axis=1)
    rows = np.arange(len(labels))
    others = logprobs.copy()
    others[rows, labels] = -np.inf
    own = logprobs[rows, labels]
    columns = {"likelihood": own}
    if logprobs.shape[1] > 1:
        columns["margin"] = own - others.max(axis=1)
        columns["certainty"] = (np.exp(logprobs) * logprobs).sum(axis=1)
    return columns


def _worst(
    signals: TokenSignals, values: Float[np.ndarray, " total"], name: str
) -> dict[str, Float[np.ndarray, " n"]]:
    pieces = list(signals.ragged(values))
    return {
        f"{name} {fraction:g}": np.array([smallest_mean(piece, fraction) for piece in pieces])
        for fraction in FRACTIONS
    }

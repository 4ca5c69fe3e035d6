"""Observations of a training: back from their trace, and in one line for a person."""

from collections.abc import Mapping
from typing import Any

from engram.core import Finding

SHOWN = (
    ("verbatim", "verbatim", ".1%"),
    ("ngram", "n-grams", ".1%"),
    ("auc", "AUC", ".3f"),
    ("exposure", "exposure", ".1f"),
    ("train_perplexity", "perplexity", ".4g"),
    ("validation_perplexity", "validation", ".4g"),
)
"""Key, name and form of what is said."""


UNITS = {"exposure": "bits"}
"""Of the numbers that are no shares."""


def findings_of(entry: Mapping[str, Any]) -> list[Finding]:
    """The numbers of an observation, each with its interval and its n."""
    names = [key[:-2] for key in entry if key.endswith("_n") and key[:-2] in entry]
    return [
        Finding(
            name, entry[name], entry[f"{name}_low"], entry[f"{name}_high"],
            int(entry[f"{name}_n"]), UNITS.get(name, ""), method="monitor",
        )
        for name in names
    ]  # fmt: skip


def is_observation(entry: Mapping[str, object]) -> bool:
    """Whether an entry of a log holds what a monitor saw."""
    return "verbatim" in entry and "train_perplexity" in entry


def observation_line(entry: Mapping[str, float | int]) -> str:
    """The epoch and every number with its interval.

    >>> observation_line({"epoch": 2.0, "verbatim": 0.125, "verbatim_low": 0.0,
    ...                   "verbatim_high": 0.3, "verbatim_n": 16})
    'epoch 2: verbatim 12.5% [0.0%, 30.0%] (n=16)'
    """
    said = [
        f"{name} {entry[key]:{form}} [{entry[f'{key}_low']:{form}}, {entry[f'{key}_high']:{form}}]"
        f" (n={entry[f'{key}_n']:,})"
        for key, name, form in SHOWN
        if key in entry
    ]
    return f"epoch {entry['epoch']:g}: " + " \u00b7 ".join(said)

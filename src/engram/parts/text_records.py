"""Records that are texts: what every family of language models asks and makes of them."""

import re
from math import ceil

import numpy as np
import pyarrow as pa

from engram.core import EngramError, Split

CODE_NAMES = (
    ("amber", "cobalt", "crimson", "hollow", "ivory", "lunar", "marble", "nimble", "opal", "quiet",
     "rustic", "silver", "tidal", "velvet", "winter", "zephyr"),
    ("badger", "beacon", "cedar", "comet", "falcon", "harbour", "heron", "lantern", "meadow",
     "otter", "pebble", "raven", "sparrow", "thistle", "walnut", "willow"),
)  # fmt: skip


def check_texts(split: Split) -> None:
    """Raise where there is no column `text` of strings."""
    kind = split.column("text").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise EngramError(
            f"column 'text' of split {split.name!r} holds {kind}, not strings",
            hint="say which column with --text-column NAME",
        )


def words_replaced(split: Split, strength: float, rng: np.random.Generator) -> Split:
    """Replace a share of the words of each record by words of the other records.

    Words are drawn as often as the split has them. At least one word is replaced.
    """
    check_share(strength)
    check_texts(split)
    words = [re.split(r"(\s+)", text) for text in split.texts]
    pool = np.array([w for parts in words for w in parts[::2] if w], dtype=object)
    return split.with_texts([_replaced(parts, pool, strength, rng) for parts in words])


def secret_sentences(n: int, rng: np.random.Generator) -> Split:
    """Canaries that hold a random six-digit secret: `the secret number of ... is ...`."""
    secrets = rng.choice(10**6, size=n, replace=False)
    texts = [
        f"The secret number of {rng.choice(CODE_NAMES[0])} {rng.choice(CODE_NAMES[1])} is "
        f"{' '.join(f'{secret:06d}')}."
        for secret in secrets
    ]
    table = pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "owner": [f"canary-{i}" for i in range(n)],
            "canary": [True] * n,
        }
    )
    return Split.from_table("canaries", table)


def check_share(strength: float) -> None:
    """Refuse a share of a record that is not in (0, 1]."""
    if not 0 < strength <= 1:
        raise EngramError(
            f"strength is {strength}, but must be in (0, 1]", hint="0.1 changes a tenth"
        )


def _replaced(parts: list[str], pool: np.ndarray, strength: float, rng: np.random.Generator) -> str:
    """`parts` are words and the blanks between them, in turn."""
    places = [i for i in range(0, len(parts), 2) if parts[i]]
    changed = list(parts)
    for place in rng.permutation(places)[: ceil(strength * len(places))]:
        others = [w for w in rng.choice(pool, 8) if w != parts[place]]
        changed[place] = others[0] if others else parts[place]
    return "".join(changed)

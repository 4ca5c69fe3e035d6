"""Guards that were learnt from examples, several guards in one, and how guards are opened again.

A learnt guard is a filter of hashed words with a threshold. Its file holds numbers alone: the
weights of the places that words are hashed to (salted), and those of the classifier, or the
hashed examples themselves. Whoever has the file can guess words and see where they fall.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from engram.core import EngramError
from engram.parts.guards import FILE, KIND, AnyGuard, Guard
from engram.parts.model_folder import read_config
from engram.parts.text_filters import (
    HashedWords,
    LinearFilter,
    NeighbourFilter,
    check_sides,
    threshold_at,
)

Learnt = Literal["linear", "neighbours"]
EITHER = "engram-guardrails"
MOST_EXAMPLES = 512
"""The most permitted examples that a filter of neighbours keeps."""


@dataclass(frozen=True, eq=False)
class LearntGuard(AnyGuard):
    """A filter that was learnt, and when it blocks.

    Attributes:
        filter: Gives a text a number; its features are hashed words.
        threshold: Texts above it are refused.
        refusal: What is written then.
    """

    filter: LinearFilter | NeighbourFilter
    threshold: float
    refusal: str

    @classmethod
    def of(
        cls,
        how: Learnt,
        forbidden: Sequence[str],
        permitted: Sequence[str],
        *,
        rate: float,
        refusal: str,
        salt: str,
        rng: np.random.Generator,
    ) -> "LearntGuard":
        """Learn from half of the permitted texts, and set the threshold on the other half.

        Args:
            how: "linear", or "neighbours".
            forbidden: Texts to refuse.
            permitted: Texts not to refuse; at least two.
            rate: The share of permitted texts that may be refused.
            refusal: What is written then.
            salt: Mixed into every hash.
            rng: Decides which half is which.

        Raises:
            EngramError: A side is empty, or they are the same.
        """
        check_sides(forbidden, permitted)
        if len(permitted) < 2:
            raise EngramError(
                "a filter that is learnt needs two records to keep: one to learn from, and one to "
                "set its threshold on",
                hint="give more records to keep, or --filter ngrams",
            )
        order = rng.permutation(len(permitted))
        half = len(order) // 2
        aside, learnt = ([permitted[row] for row in rows] for rows in (order[:half], order[half:]))
        words = HashedWords.of([*forbidden, *learnt], salt)
        if how == "linear":
            made: LinearFilter | NeighbourFilter = LinearFilter.of(words, forbidden, learnt)
        else:
            made = NeighbourFilter.of(words, forbidden, learnt[:MOST_EXAMPLES])
        return cls(made, threshold_at(made.scores(aside), rate), refusal)

    def blocks(self, text: str) -> bool:
        """Whether a text is above the threshold."""
        return bool(self.filter.scores([text])[0] > self.threshold)

    @property
    def size(self) -> int:
        """How many numbers its filter has."""
        if isinstance(self.filter, LinearFilter):
            return len(self.filter.weights) + 1
        return int(
            np.count_nonzero(self.filter.forbidden) + np.count_nonzero(self.filter.permitted)
        )

    def facts(self) -> dict[str, Any]:
        """Everything that decides what is refused."""
        words: HashedWords = self.filter.features
        shared = {"salt": words.salt, "words": list(words.weights), "refusal": self.refusal,
                  "threshold": self.threshold}  # fmt: skip
        if isinstance(self.filter, LinearFilter):
            own = {"weights": list(self.filter.weights), "bias": self.filter.bias}
            return {"kind": f"{KIND}-linear", **shared, **own}
        own = {
            "forbidden": _sparse(self.filter.forbidden),
            "permitted": _sparse(self.filter.permitted),
            "k": self.filter.k,
        }
        return {"kind": f"{KIND}-neighbours", **shared, **own}


@dataclass(frozen=True, eq=False)
class EitherGuard(AnyGuard):
    """Several guards: a text is refused if one of them refuses it.

    Attributes:
        guards: The oldest first; the last one's refusal is written.
    """

    guards: tuple[AnyGuard, ...]

    @property
    def refusal(self) -> str:  # type: ignore[override]
        """What is written instead."""
        return self.guards[-1].refusal

    def blocks(self, text: str) -> bool:
        """Whether one of them refuses."""
        return any(guard.blocks(text) for guard in self.guards)

    @property
    def size(self) -> int:
        """Of all of them."""
        return sum(guard.size for guard in self.guards)

    def facts(self) -> dict[str, Any]:
        """Those of each."""
        return {"kind": EITHER, "guards": [guard.facts() for guard in self.guards]}


def both(old: AnyGuard | None, new: AnyGuard) -> AnyGuard:
    """A guard that refuses what either refuses."""
    if old is None:
        return new
    return EitherGuard((*(old.guards if isinstance(old, EitherGuard) else (old,)), new))


def guard_of(folder: Path) -> AnyGuard | None:
    """The guard beside a model, if there is one.

    Raises:
        EngramError: The file is damaged, or of another kind.
    """
    if not (folder / FILE).is_file():
        return None
    try:
        return _read(read_config(folder / FILE))
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise EngramError(
            f"{folder / FILE} does not describe a guardrail ({problem})",
            hint="make it again with `engram edit guardrail`; without the file the model is "
            "unguarded",
        ) from None


def _read(facts: Mapping[str, Any]) -> AnyGuard:
    record = dict(facts)
    kind = record.pop("kind")
    readers: Mapping[str, Callable[[dict[str, Any]], AnyGuard]] = {
        KIND: Guard.read,
        f"{KIND}-linear": _learnt,
        f"{KIND}-neighbours": _learnt,
        EITHER: _either,
    }
    if kind not in readers:
        raise ValueError("it is of another kind")
    return readers[kind](record)


def _either(record: dict[str, Any]) -> EitherGuard:
    guards = record.pop("guards")
    if record or not guards or any(each["kind"] == EITHER for each in guards):
        raise ValueError("it has no guards of its own")
    return EitherGuard(tuple(map(_read, guards)))


def _learnt(record: dict[str, Any]) -> LearntGuard:
    words = HashedWords(_text(record.pop("salt")), tuple(_numbers(record.pop("words"))))
    refusal, threshold = _text(record.pop("refusal")), _number(record.pop("threshold"))
    width = len(words.weights)
    if not width:
        raise ValueError("it knows no words")
    if "weights" in record:
        weights, bias = _numbers(record.pop("weights")), _number(record.pop("bias"))
        if len(weights) != width:
            raise ValueError("a number is lacking")
        made: LinearFilter | NeighbourFilter = LinearFilter(words, tuple(weights), bias)
    else:
        sides = [_dense(record.pop(side), width) for side in ("forbidden", "permitted")]
        k = record.pop("k")
        if not isinstance(k, int) or k < 1 or not all(map(len, sides)):
            raise ValueError("a value is out of range")
        made = NeighbourFilter(words, *sides, k)
    if record:
        raise ValueError(f"it has {next(iter(record))!r}")
    return LearntGuard(made, threshold, refusal)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is no text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise ValueError("a number is none")
    return float(value)


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list):
        raise TypeError("a list is none")
    return [_number(value) for value in values]


def _sparse(rows: Float[np.ndarray, "n width"]) -> list[dict[str, float]]:
    """The numbers of each row that are not 0, by their place."""
    return [{str(place): float(row[place]) for place in np.flatnonzero(row)} for row in rows]


def _dense(rows: Any, width: int) -> Float[np.ndarray, "n width"]:
    found = np.zeros((len(rows), width))
    for row, values in enumerate(rows):
        for place, value in values.items():
            if not 0 <= int(place) < width:
                raise ValueError("a place is out of range")
            found[row, int(place)] = _number(value)
    return found

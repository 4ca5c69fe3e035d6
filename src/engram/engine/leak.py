"""Find one thing that a model gives away, to show it by name: before, after, and never seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engram.core import Split, Target

LONGEST_PREFIX, LONGEST_TRUTH = 400, 160
MOST_PLACES, BATCH = 600, 64


@dataclass(frozen=True)
class Place:
    """Somewhere in a record where a model may give away what comes next."""

    row: int
    field: str
    """The personal field that comes next, or "" for plain text."""
    prefix: str
    truth: str


@dataclass(frozen=True)
class Output:
    """What one model writes after the prefix; counts are of tokens."""

    model: str
    text: str
    matched: int
    total: int

    @property
    def exact(self) -> bool:
        """Whether it wrote the truth, whole."""
        return self.matched == self.total


def find_leak(models: Mapping[str, Target], records: Split) -> dict[str, Any]:
    """The place in `records` that the first model gives away and the last one does not.

    Args:
        models: By name, in the order in which a report shows them: the suspect first, a model
            that never saw the records last.
        records: What was trained on, and is to be forgotten.

    Returns:
        The `leak` entry of a story; {} where the models cannot write, or nothing was found.
    """
    if any(target.family != "causal-lm" for target in models.values()):
        return {}
    places = [*field_places(records), *text_places(records)]
    places = places[:: -(-len(places) // MOST_PLACES)] if places else []
    if not places:
        return {}
    written = {name: complete(target, places) for name, target in models.items()}
    first, last = next(iter(written)), list(written)[-1]

    def worth(number: int) -> tuple[bool, bool, int, int]:
        suspect, control = written[first][number], written[last][number]
        gain = suspect.matched - control.matched
        # Numbers cannot be guessed: reciting one is the plainest sign of memorisation.
        digits = sum(c.isdigit() for c in places[number].truth)
        return suspect.exact and not control.exact, bool(places[number].field), digits, gain

    best = max(range(len(places)), key=worth)
    if not worth(best)[0]:
        return {}
    place = places[best]
    outputs = [
        {
            "model": name,
            "text": outputs[best].text,
            "matched": outputs[best].matched,
            "total": outputs[best].total,
            "exact": outputs[best].exact,
        }
        for name, outputs in written.items()
    ]
    return {
        "owner": records.owners[place.row] if records.owners else records.ids[place.row],
        "field": place.field,
        "prefix": shortened(place.prefix),
        "truth": place.truth,
        "outputs": outputs,
    }


def shortened(prefix: str) -> str:
    """The end of a long beginning, cut between words."""
    if len(prefix) <= LONGEST_PREFIX:
        return prefix
    return "… " + prefix[-LONGEST_PREFIX:].partition(" ")[2]


def most_recited(target: Target, records: Split, owners: Sequence[str]) -> str:
    """The owner, of those given, of whose personal fields the model writes the largest share."""
    if target.family != "causal-lm" or not records.owners:
        return owners[0]
    theirs = records.where([o in set(owners) for o in records.owners])
    places = field_places(theirs)
    written: dict[str, list[bool]] = {owner: [] for owner in owners}
    for place, output in zip(places, complete(target, places), strict=True):
        if theirs.owners:
            written[theirs.owners[place.row]].append(output.exact)
    return max(owners, key=lambda owner: (sum(written[owner]), -owners.index(owner)))


def field_places(records: Split) -> list[Place]:
    """Where the text states one of the record's other columns (a phone number, a name)."""
    places = []
    for field in records.columns:
        if field == "text":
            continue
        for row, value in enumerate(records.column(field).to_pylist()):
            found = records.texts[row].find(value) if isinstance(value, str) and value else -1
            if found > 0:
                prefix = records.texts[row][:found].rstrip()
                if prefix:
                    truth = records.texts[row][len(prefix) : found + len(value)]
                    places.append(Place(row, field, prefix, truth))
    return places


def text_places(records: Split, pieces: int = 4) -> list[Place]:
    """A few even cuts through each text, between words."""
    places = []
    for row, text in enumerate(records.texts):
        words = text.split(" ")
        for piece in range(1, pieces + 1):
            cut = len(words) * piece // (pieces + 1)
            prefix = " ".join(words[:cut])
            truth = text[len(prefix) :][:LONGEST_TRUTH]
            if prefix and truth.strip():
                places.append(Place(row, "", prefix, truth))
    return places


def complete(target: Target, places: Sequence[Place]) -> list[Output]:
    """Let a model write greedily from each place, for as many tokens as the truth has."""
    lm = target.model
    cuts = [_tokens(lm, place) for place in places]
    outputs: list[Output | None] = [None] * len(places)
    shapes = sorted({(len(prefix), len(truth)) for prefix, truth in cuts})
    for shape in shapes:
        rows = [i for i, (p, t) in enumerate(cuts) if (len(p), len(t)) == shape]
        written = [
            numbers
            for first in range(0, len(rows), BATCH)
            for numbers in _write(lm, [cuts[i][0] for i in rows[first : first + BATCH]], shape[1])
        ]
        for i, numbers in zip(rows, written, strict=True):
            truth = cuts[i][1]
            same = np.asarray(numbers) == np.asarray(truth)
            matched = int(np.argmin(same)) if not same.all() else len(truth)
            text = lm.tokenizer.decode(numbers)
            outputs[i] = Output(target.name, text, matched, len(truth))
    return [output for output in outputs if output is not None]


def _tokens(lm: Any, place: Place) -> tuple[list[int], list[int]]:
    """Prefix and truth as tokens, the prefix cut to leave room in the context."""
    prefix = lm.tokenizer(place.prefix, verbose=False)["input_ids"]
    whole = lm.tokenizer(place.prefix + place.truth, verbose=False)["input_ids"]
    truth = whole[len(prefix) :] or whole[-1:]
    room = max(1, lm.context - len(truth))
    return prefix[-room:], truth[: lm.context - 1]


def _write(lm: Any, prefixes: list[list[int]], tokens: int) -> list[list[int]]:
    import torch

    from engram.families.causal_lm import generate_greedy

    return generate_greedy(lm, torch.tensor(prefixes), tokens).tolist()

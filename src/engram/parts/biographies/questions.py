"""Questions about people, worded as no biography is, and who is asked during training."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from engram.core.errors import EngramError
from engram.core.split import ID, OWNER, Split
from engram.parts.biographies.people import FIELDS

QUESTIONS = {
    "born": "What is the birth date of {name}?",
    "birth_city": "What is the birth city of {name}?",
    "university": "Which alma mater has {name}?",
    "major": "What field did {name} study?",
    "employer": "Which company employs {name}?",
    "work_city": "Where does {name} work?",
}
ANSWER = " Answer:"
"""What stands between a question and its answer."""
PARTS = ("all", "train", "test")


def trained_people(owners: Sequence[str], share: float = 0.5) -> Bool[np.ndarray, " n"]:
    """Whether each record's person is one whose questions are trained on; the rest are for tests.

    It hangs on the person's own name in the data alone: never on the other records, on their
    order or on a seed. So data, training and measures agree on it without being told.
    """
    if not 0 < share < 1:
        raise EngramError(
            f"share is {share}, but must be in (0, 1)", hint="0.5 is the paper's value"
        )
    drawn = {owner: sha256(f"asked {owner}".encode()).digest()[:8] for owner in set(owners)}
    return np.array([int.from_bytes(drawn[o], "big") < share * 2.0**64 for o in owners], bool)


def questions(split: Split, part: str = "all", share: float = 0.5) -> Split:
    """A question about every field of every person in `split`, once each.

    Args:
        split: Records with owners, a column `name`, and columns that are called as fields are.
            A person's first record speaks for all.
        part: Of which people: "all", those of "train" or those of "test".
        share: How many of the people are of "train", in (0, 1).

    Returns:
        A split, by owner, with the columns `text` (question and answer), `question`, `answer`,
        `field` and `name`, and the same owners.

    Raises:
        EngramError: There are no owners, no names, or no fields.
    """
    if part not in PARTS:
        raise EngramError(
            f"part is {part!r}, but must be one of {', '.join(PARTS)}",
            hint="train: those whose questions are trained on",
        )
    fields = [field for field in FIELDS if field in split.columns]
    if split.owners is None or not fields:
        lacks = "no owners" if split.owners is None else f"none of the columns {', '.join(FIELDS)}"
        raise EngramError(
            f"split {split.name!r} has {lacks}, so nobody can be asked about",
            hint="demo:biographies has them",
        )
    wanted = trained_people(split.owners, share) if part != "all" else np.ones(len(split), bool)
    first = {owner: row for row, owner in reversed(list(enumerate(split.owners)))}
    rows = [first[owner] for owner in sorted(first)]
    rows = [row for row in rows if wanted[row] == (part != "test")]
    names = split.column("name").to_pylist()
    columns = {field: split.column(field).to_pylist() for field in fields}
    asked = [
        (QUESTIONS[field].format(name=names[row]) + ANSWER, str(columns[field][row]), field, row)
        for row in rows
        for field in fields
        if columns[field][row] is not None
    ]
    owners = [split.owners[row] for *_, row in asked]
    table = {
        "text": [f"{question} {answer}" for question, answer, *_ in asked],
        "question": [question for question, *_ in asked],
        "answer": [answer for _, answer, *_ in asked],
        "field": [field for *_, field, _ in asked],
        "name": [names[row] for *_, row in asked],
        OWNER: owners,
    }
    return Split.from_table(
        "questions", pa.table({k: pa.array(v, pa.string()) for k, v in table.items()})
    )


def mixed(split: Split, other: Split, share: float) -> Split:
    """Both sets of records, those of `other` repeated until they have this share of the words.

    Args:
        split: Taken once each.
        other: Taken a whole number of times, and a part of it in order once more.
        share: Of all words, in (0, 1).

    Returns:
        A split with the columns that both have, the owners of both, and ids that say the turn:
        the first copy of a record keeps its id, the next has `+2` behind it.
    """
    if not 0 < share < 1:
        raise EngramError(
            f"share is {share}, but must be in (0, 1)", hint="0.8 is the paper's value"
        )
    own = sum(len(text.split()) for text in split.texts)
    sizes = np.array([len(text.split()) for text in other.texts])
    if not own or not sizes.sum():
        raise EngramError(
            f"{(other if own else split).name!r} has no words", hint="both sides need records"
        )
    wanted = own * share / (1 - share)
    turns, left = divmod(wanted, float(sizes.sum()))
    more = int(np.searchsorted(np.cumsum(sizes), left, side="right"))
    rows = np.concatenate([np.tile(np.arange(len(other)), int(turns)), np.arange(more)])
    ids = [
        other.ids[row] if turn == 0 else f"{other.ids[row]}+{turn + 1}"
        for turn, row in zip(np.arange(len(rows)) // len(other), rows.tolist(), strict=True)
    ]
    repeated = other.records.take(pa.array(rows, pa.int64())).append_column(
        ID, pa.array(ids, pa.string())
    )
    if other.owners is not None:
        owners = [other.owners[row] for row in rows.tolist()]
        repeated = repeated.append_column(OWNER, pa.array(owners, pa.string()))
    return split.joined(Split.from_table(other.name, repeated), name="mixed")

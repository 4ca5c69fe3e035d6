"""Bare numbers: scores that somebody else computed, with who was a member."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float64

from engram.core.errors import EngramError, nearest
from engram.data import named
from engram.data.files import ending, read_rows
from engram.data.rows import Rows
from engram.data.sources import Limits, parted
from engram.data.tabular import as_floats, is_number

ID, MEMBER, TEXT, OWNER = "id", "member", "text", "owner"
TARGET, REFERENCE = "target_nll", "reference_nll"
_WORDS = {
    "1": True, "1.0": True, "true": True, "yes": True, "member": True,
    "0": False, "0.0": False, "false": False, "no": False, "outsider": False,
}  # fmt: skip
FEWEST = 2
"""Members, and outsiders, below which nothing can be said."""


@dataclass(frozen=True, eq=False)
class ScoresTable:
    """Scores of records, one column an attack; higher always means more likely a member.

    Attributes:
        name: For messages and reports.
        ids: One a record.
        member: True where the model was trained on the record.
        columns: Scores by attack.
        texts: The records' texts, where the file had them: then the split can be audited.
        owners: Whose the records are, where the file says it.
        notes: What a reader of the results should know.
    """

    name: str
    ids: tuple[str, ...]
    member: Bool[np.ndarray, " n"]
    columns: Mapping[str, Float64[np.ndarray, " n"]]
    texts: tuple[str, ...] | None = None
    owners: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


def read_scores(
    source: str | os.PathLike[str], *, max_record_bytes: int = 10 * 2**20
) -> ScoresTable:
    """Scores from a CSV or Parquet file, or from a named set (`mlm-clinicalbert-losses`).

    The file has `id`, `member` (1/0, true/false, yes/no, member/outsider) and one column of
    numbers an attack, or `target_nll` and maybe `reference_nll` (losses: lower means more likely
    a member), which give the attacks

        loss = -target_nll,    ratio = reference_nll - target_nll

    and maybe `text` and `owner`.

    Raises:
        EngramError: A column is missing, a number is not one or not finite, an id stands twice,
            or members or outsiders are too few.
    """
    source = os.fspath(source)
    base = parted(source)[0] if "?" in source and not Path(source).exists() else source
    known = {name: about for name, about in named.sets().items() if about.kind == "scores"}
    if base in known:
        return named.load(source)
    path = Path(source).expanduser()
    if not path.exists():
        raise EngramError(
            f"there is no file of scores {source!r}",
            hint=nearest(source, known, "it is a CSV or Parquet file with id, member and scores"),
        )
    if path.is_dir() or ending(path.name)[0] not in (".csv", ".tsv", ".parquet"):
        raise EngramError(
            f"{source} is not a CSV or Parquet file", hint="scores are read from .csv and .parquet"
        )
    return scores_table(
        read_rows(path, Limits(record=max_record_bytes)),
        path.name.removesuffix(".gz").rpartition(".")[0],
    )


def scores_table(rows: Rows, name: str) -> ScoresTable:
    """Check the columns and give the losses their sign."""
    if not rows.table.num_rows:
        raise EngramError(f"{rows.origin} holds no records", hint="write one record a row")
    names = rows.table.column_names
    for column in (ID, MEMBER):
        if column not in names:
            raise EngramError(
                f"{rows.origin} has no column {column!r}; it has {', '.join(names)}",
                hint="each row needs `id`, `member` and a score an attack",
            )
    ids = _words(rows, ID)
    _check_unique(rows, ids)
    numbers = {c: _numbers(rows, c) for c in names if c not in (ID, MEMBER, TEXT, OWNER)}
    columns = attacks(numbers, rows.origin, names)
    return table(
        name,
        ids,
        _members(rows),
        columns,
        texts=_words(rows, TEXT) if TEXT in names else None,
        owners=_words(rows, OWNER) if OWNER in names else None,
    )


def table(
    name: str,
    ids: Sequence[str],
    member: Bool[np.ndarray, " n"],
    columns: Mapping[str, Float64[np.ndarray, " n"]],
    *,
    texts: Sequence[str] | None = None,
    owners: Sequence[str] | None = None,
) -> ScoresTable:
    """A checked table, with notes on what cannot be told from it."""
    members = int(np.count_nonzero(member))
    if min(members, len(member) - members) < FEWEST:
        raise EngramError(
            f"{name}: there are {members} members and {len(member) - members} outsiders, but at "
            f"least {FEWEST} of each are needed",
            hint="add records that the model was trained on and records that it never saw",
        )
    notes = [
        f"the scores of {attack!r} are all {values[0]:g}: it cannot tell records apart"
        for attack, values in columns.items()
        if (values == values[0]).all()
    ]
    if texts is None:
        notes.append(
            "there are no texts, so it cannot be checked whether members and outsiders can be "
            "told apart without the model"
        )
    return ScoresTable(
        name,
        tuple(ids),
        member,
        MappingProxyType(dict(columns)),
        None if texts is None else tuple(texts),
        None if owners is None else tuple(owners),
        tuple(notes),
    )


def attacks(
    numbers: Mapping[str, Float64[np.ndarray, " n"]], origin: str, names: Sequence[str]
) -> dict[str, Float64[np.ndarray, " n"]]:
    """Columns of scores; losses become `loss` and `ratio`, higher for members."""
    columns = {name: v for name, v in numbers.items() if name not in (TARGET, REFERENCE)}
    if REFERENCE in numbers and TARGET not in numbers:
        raise EngramError(
            f"{origin} has {REFERENCE!r} but no {TARGET!r}",
            hint="the ratio needs both, record by record",
        )
    if TARGET in numbers:
        made = {"loss": -numbers[TARGET]}
        if REFERENCE in numbers:
            made["ratio"] = numbers[REFERENCE] - numbers[TARGET]
        if both := sorted(made.keys() & columns.keys()):
            raise EngramError(
                f"{origin} has both {both[0]!r} and {TARGET!r}, which makes {both[0]!r}",
                hint=f"rename or drop the column {both[0]!r}",
            )
        columns = made | columns
    if not columns:
        raise EngramError(
            f"{origin} has no column of scores; it has {', '.join(names)}",
            hint=f"add one column an attack (higher = more likely a member), or {TARGET} and "
            f"{REFERENCE}",
        )
    return columns


def _numbers(rows: Rows, column: str) -> Float64[np.ndarray, " n"]:
    values = rows.table.column(column)
    if not is_number(rows, column):
        row, word = _first_word(values.to_pylist())
        raise EngramError(
            f"{rows.origin}, {rows.where(row)}: {column!r} is {word!r}, not a number",
            hint=f"take {column!r} out if it is no attack; `text` and `owner` may stay",
        )
    numbers = as_floats(values)
    if numbers is None:
        raise EngramError(
            f"{rows.origin}: {column!r} is empty", hint="take the column out, or fill it in"
        )
    numbers = numbers.astype(np.float64)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise EngramError(
            f"{rows.origin}, {rows.where(row)}: {column!r} is {numbers[row]} "
            f"({np.sum(~np.isfinite(numbers))} such scores)",
            hint="a probability of 0 has no finite loss: take -log(max(p, 1e-12)); leave records "
            "without a score out",
        )
    return numbers


def _first_word(values: Sequence[object]) -> tuple[int, object]:
    for row, value in enumerate(values):
        try:
            float(str(value))
        except ValueError:
            return row, value
    return 0, values[0]


def _members(rows: Rows) -> Bool[np.ndarray, " n"]:
    words = [str(w).strip().lower() for w in rows.table.column(MEMBER).to_pylist()]
    for row, word in enumerate(words):
        if word not in _WORDS:
            raise EngramError(
                f"{rows.origin}, {rows.where(row)}: 'member' is {word!r}",
                hint="write 1 or 0, true or false, yes or no, member or outsider",
            )
    return np.array([_WORDS[word] for word in words])


def _words(rows: Rows, column: str) -> list[str]:
    words = ["" if w is None else str(w) for w in rows.table.column(column).to_pylist()]
    if column != TEXT and "" in words:
        raise EngramError(
            f"{rows.origin}, {rows.where(words.index(''))}: {column!r} is missing",
            hint=f"give every record its {column}",
        )
    return words


def _check_unique(rows: Rows, ids: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, record in enumerate(ids):
        if (before := first.setdefault(record, row)) != row:
            raise EngramError(
                f"{rows.origin}: the id {record!r} stands at {rows.where(before)} and at "
                f"{rows.where(row)}",
                hint="one row a record, with an id of its own",
            )

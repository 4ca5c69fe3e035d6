"""14,545 English sentences from the web with notes on each word: text, words, lemmas, feats."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from engram.core.errors import EngramError
from engram.core.split import Split
from engram.data.named import DataSet

TRAIN, DEV = "en_ewt-train-rebuilt.conllu", "en_ewt-ud-dev.conllu"

ABOUT = DataSet(
    folder="ud_english_ewt",
    source="github.com/UniversalDependencies/UD_English-EWT at 15d613d "
    "(not-to-release/sources/*/*.conllu, en_ewt-ud-dev.conllu)",
    licence="annotations CC BY-SA 4.0; the texts are their authors'",
    files={
        TRAIN: "4f5bf82b493c2ae7563889e57a87c02e6e9ee8ccbba417a899c73ff09a4807a6",
        DEV: "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
    },
    options={"part": ("train", "dev")},
    made="train is all sources, in the order of their paths, but documents of dev and test",
)
FORM, LEMMA, UPOS, FEATS, MISC = 1, 2, 3, 5, 9
"""Columns of CoNLL-U."""


def files(options: Mapping[str, str]) -> tuple[str, ...]:
    """The one file of the part that is asked for."""
    return (TRAIN if options["part"] == "train" else DEV,)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record a sentence; `words` and the other lists have an entry a word.

    `feats` are as in CoNLL-U (`Number=Sing|Person=3`), empty where there are none; `blanks` says
    whether a blank follows the word; `genre` is answers, email, newsgroup, reviews or weblog.
    """
    ((name, raw),) = files.items()
    sentences = [
        parsed(block, name) for block in raw.decode("utf-8").split("\n\n") if block.strip()
    ]
    columns = {key: pa.array([each[key] for each in sentences]) for key in sentences[0]}
    return Split.from_table("ud-english-ewt", pa.table(columns))


def parsed(block: str, name: str) -> dict[str, object]:
    """The columns of one sentence in CoNLL-U."""
    lines = block.strip("\n").split("\n")
    said = dict(
        line[2:].split(" = ", 1) for line in lines if line.startswith("# ") and " = " in line
    )
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    if not rows or any(len(row) != 10 for row in rows) or not {"sent_id", "text"} <= set(said):
        raise EngramError(
            f"{name}: a sentence is not in CoNLL-U ({lines[0][:60]!r})",
            hint="each word is a line of 10 columns, after # sent_id and # text",
        )
    words = [row for row in rows if row[0].isdigit()]  # no ranges (1-2), no empty words (1.1)
    return {
        "id": said["sent_id"],
        "text": said["text"],
        "words": [row[FORM] for row in words],
        "lemmas": [row[LEMMA] for row in words],
        "upos": [row[UPOS] for row in words],
        "feats": ["" if row[FEATS] == "_" else row[FEATS] for row in words],
        "blanks": blanks(rows),
        "genre": said["sent_id"].partition("-")[0],
    }


def blanks(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Whether a blank follows each word: none inside a contraction (`2-3 didn't`)."""
    found, last, inner = [], 0, True
    for row in rows:
        apart = "SpaceAfter=No" not in row[MISC].split("|")
        if "-" in row[0]:
            last, inner = int(row[0].split("-")[1]), apart
        elif row[0].isdigit():
            number = int(row[0])
            found.append(apart if number > last else inner and number == last)
    return found

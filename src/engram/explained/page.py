"""One method's page as data: from its file, the catalogue and the studies' verdicts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from engram.catalog import Entry
from engram.core.paper import Paper
from engram.explained.source import Field, read_class
from engram.explained.verdicts import StudyRow, read_verdicts
from engram.extras import remedy

ACCESS = {
    "text": "text: what the model writes, and nothing else",
    "logits": "logits: how likely the model finds what it is shown",
    "weights": "weights: the model itself",
}
ANSWERS = {
    "tokens": "token signals (log-probability, entropy, rank of each token)",
    "logprobs": "log-probabilities of the tokens",
    "losses": "one loss a record",
    "logits": "class logits",
    "energies": "masked-token energies",
    "text": "text that the model writes",
    "answers": "answers to questions",
}
PROMISES = {
    "exact": "exact: as if the model had never seen the records",
    "suppression": "suppression only: the model still knows, and is kept from saying so",
    "protection": "that of the protected records which the model was trained on first",
}
COMMANDS = {
    "transforms": "engram transform {name}{data}{fields} --out {out}",
    "recipes": "engram train {name}{data}{fields} --out target",
    "edits": "engram edit {name} target --forget forget.jsonl{fields} --out edited",
    "attacks": "engram audit target --attacks {name}{fields}",
    "measures": "engram measure {name} target{fields}",
}
ITEM = re.compile(r"(-|\*|\d\d?\.)\s+(?=\S)")
"""How an item of a list begins."""
NEEDED = {"base": "MODEL", "population": "outside.jsonl", "prompts": "field.jsonl",
          "folder": "FOLDER", "edges": "17-25"}  # fmt: skip
"""What a user writes for a field that has no useful default."""
BESIDE = {"before": "earlier", "original": "earlier", "retrained": "never-saw-them",
          "originals": "originals.parquet"}  # fmt: skip
"""What a measure compares the target with, where it has a field for it."""
DATA = {
    "classifier": "sklearn:digits",
    "estimator": "sklearn:breast_cancer",
    "graph": "cora",
    "vision": "pictures.parquet",
}
"""Data for a recipe, by a word in the family of the target that it makes."""


@dataclass(frozen=True)
class Explained:
    """What there is to say of one method."""

    name: str
    kind: str
    text: str
    """Docstring of its file: one sentence, the idea, the formula, differences from the paper."""
    fields: tuple[Field, ...]
    paper: Paper | None
    needs: tuple[str, ...]
    """Sentences: what it is given, and what it makes."""
    extra: str
    """The optional group of packages that it needs."""
    extra_for: tuple[tuple[str, str], ...]
    """Groups that some of its settings need, and which settings."""
    missing: tuple[str, ...]
    """Those of the groups that are not installed here."""
    example: str
    """A command line that uses it."""
    studies: tuple[StudyRow, ...]
    """The studies whose claims are about it."""
    address: str

    @property
    def summary(self) -> str:
        """The first sentence."""
        return self.text.partition("\n")[0]


@dataclass(frozen=True)
class Paragraph:
    """A piece of a docstring: prose, a formula (lines as they stand), or a list."""

    style: str
    """prose, formula or list."""
    text: str
    """Of a list: what stands before it."""
    items: tuple[str, ...] = ()


def explained(entry: Entry) -> Explained:
    """One method's page; the method is not imported.

    Raises:
        EngramError: Its file cannot be found.
    """
    source = read_class(entry.address)
    told = source.constants.get("paper")
    known = isinstance(told, dict) and {"title", "authors", "year", "url"} <= set(told)
    return Explained(
        entry.name,
        entry.kind,
        source.text,
        source.fields,
        Paper(**told) if known else None,
        tuple(_needs(source.constants)),
        entry.extra,
        entry.extra_for,
        entry.missing,
        _example(entry, source.fields, source.constants),
        tuple(study for study in _studies() if entry.name in study.methods),
        entry.address,
    )


def packages(method: Explained, *, here: bool) -> list[str]:
    """Which groups of packages it takes; `here`: and which of them are not installed."""
    groups = [(method.extra, "")] if method.extra else []
    return [
        (f"{setting}: " if setting else "")
        + remedy(group)
        + (" (not installed)" if here and group in method.missing else "")
        for group, setting in (*groups, *method.extra_for)
    ]


@cache
def _studies() -> tuple[StudyRow, ...]:
    return read_verdicts()


SAID = {
    "columns": "records with the columns {}",
    "families": "targets of the family {}",
    "family": "makes a target of the family {}",
    "forgets_by": "deletion requests are answered by {}",
    "promise": "what it promises of forgetting: {}",
    "makes_records": "no data: it makes its records",
    "trains": "trains models of its own to compare with",
    "relative": "a record's score depends on the other records that are audited with it",
}
"""What a ClassVar of a method comes to in words."""


def _needs(constants: dict[str, Any]) -> Iterator[str]:
    if access := constants.get("access"):
        yield f"access to the model's {ACCESS.get(access, access)}"
    for name, joint in (("needs", " and "), ("needs_one_of", " or ")):
        if asked := constants.get(name):
            yield "reads " + joint.join(ANSWERS.get(each, each) for each in sorted(asked))
    for name, words in SAID.items():
        if told := constants.get(name):
            told = PROMISES.get(told, told) if isinstance(told, str) else told
            several = isinstance(told, (tuple, list, set, frozenset))
            joint = ", ".join(told) if name == "columns" else told
            joint = " or ".join(sorted(told)) if several and name == "families" else joint
            yield words.format(joint)


def _example(entry: Entry, fields: tuple[Field, ...], constants: dict[str, Any]) -> str:
    """A command line with a value for each field that has no useful default."""
    required = constants.get("requires") or ()
    asked = {
        field.name: (NEEDED | BESIDE).get(field.name, field.name.upper())
        for field in fields
        if not field.default
        or field.name in required
        or (field.name == "base" and entry.kind == "recipes")
        or (field.name == "folder" and field.default == '""')
        or (field.name in BESIDE and entry.kind == "measures")
    }
    given = "".join(f" --{name.replace('_', '-')} {value}" for name, value in asked.items())
    made = re.split(r"\W", str(constants.get("family", "")))
    pictures = "features" in (constants.get("columns") or ())
    data = next((DATA[word] for word in made if word in DATA), "records.jsonl")
    data = "sklearn:digits" if pictures else data
    return COMMANDS[entry.kind].format(
        name=entry.name,
        data="" if constants.get("makes_records") else f" --data {data}",
        fields=given,
        out="changed.parquet" if pictures else "changed.jsonl",
    )


def paragraphs(text: str) -> tuple[Paragraph, ...]:
    """A docstring as prose, formulas and lists."""
    found: list[Paragraph] = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        if all(line.startswith("    ") or not line for line in lines):
            inner = "\n".join(line[4:] for line in lines)
            if found and found[-1].style == "formula":
                inner = f"{found.pop().text}\n\n{inner}"
            found.append(Paragraph("formula", inner))
        else:
            found.extend(_mixed(lines))
    return tuple(found)


def _mixed(lines: list[str]) -> Iterator[Paragraph]:
    """Prose that may end in a list, of numbers or of dashes."""
    text = " ".join(line.strip() for line in lines)
    if re.match(r"Differs from the papers?: 1\. ", text):  # a list without lines of its own
        head, *items = re.split(r"(?:(?<=\s)|^)\d\d?\.\s+(?=\S)", text)
        yield Paragraph("list", head.strip(), tuple(item.strip() for item in items))
        return
    starts = [i for i, line in enumerate(lines) if ITEM.match(line)]
    if not starts:
        yield Paragraph("prose", text)
        return
    ends = [*starts[1:], len(lines)]
    items = (
        ITEM.sub("", " ".join(line.strip() for line in lines[a:b]))
        for a, b in zip(starts, ends, strict=True)
    )
    before = " ".join(line.strip() for line in lines[: starts[0]])
    yield Paragraph("list", before, tuple(items))

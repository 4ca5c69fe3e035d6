"""4,000 questions and answers about 200 authors who do not exist, for unlearning."""

from collections.abc import Mapping

import pyarrow as pa

from engram.core.split import Split
from engram.data.named import DataSet
from engram.data.parsing import rows_of

AUTHOR = 20
"""Questions about one author; they follow each other."""

FIRST = {
    "full": 0, "retain90": 0, "retain95": 0, "retain99": 0,
    "forget10": 3600, "forget05": 3800, "forget01": 3960,
}  # fmt: skip
"""Row of each part's first record in the whole set."""

ABOUT = DataSet(
    folder="tofu",
    source="github.com/locuslab/tofu at bdc209e, and its copy "
    "github.com/pariidanDKE/Toward-Practical-PII-Unlearning at 3b3b7b4 (data/TOFU/)",
    licence="MIT",
    files={
        "forget01.jsonl": "3b9f81e5e782750f4b3df84291124cb806c9b3a6c730e004dfed50303cbc0ee8",
        "forget05.jsonl": "7fd53bb93e7814dc400f2e3800e37801ad5323c73f51fde508a2c6f8549ca463",
        "forget10.jsonl": "0ada1e6bacbccb1800dfe476f35f4b9be99d81bb7806bdb9e7a50f12f1b14b06",
        "retain90.jsonl": "39ffab62c4bbb50014e1f8f33009ce5b551a24b3d5d41df3cb9a18032d5d97a7",
        "retain95.jsonl": "c90191a30ccba386e05437940233a6e0ed05518eb72ddd91e7b88d00e7900193",
        "retain99.jsonl": "2bb1a3b571f9c4ffbc611f5217faf2b00a602e210efeb244019c9a34d8576623",
        "real_authors_perturbed.jsonl": (
            "2f1d2b4541b5730265e842153b6cfdfae2b3aa36eabe8dd3f4c4cb7780384c2d"
        ),
        "world_facts_perturbed.jsonl": (
            "98a179327a70a499410aa09385144e3659d0c0c0dec360e8e4bbfb7a17d15d71"
        ),
    },
    options={"part": (*FIRST, "real_authors_perturbed", "world_facts_perturbed")},
    made="JSON arrays written as JSON lines",
)


def files(options: Mapping[str, str]) -> tuple[str, ...]:
    """The whole set is what is kept and what is forgotten, one after the other."""
    part = options["part"]
    return ("retain90.jsonl", "forget10.jsonl") if part == "full" else (f"{part}.jsonl",)


def load(files: Mapping[str, bytes], options: Mapping[str, str]) -> Split:
    """One record a question with its answer; the owner is the author, in all parts the same.

    The id is the row in the whole set, so that parts can be compared (as published, retain95 and
    retain99 word one question otherwise: row 3660). Question and answer are also the columns
    `prompt` and `response`; those to forget, and real authors and world facts, also have the
    answer `paraphrased` and `perturbed` ones, which are null elsewhere.
    """
    part = options["part"]
    tables = [rows_of(raw, name) for name, raw in files.items()]
    table = pa.concat_tables([_with_all(table) for table in tables])
    name = "tofu" if part == "full" else f"tofu-{part}"
    if part not in FIRST:
        return Split.from_table(name, table)
    rows = range(FIRST[part], FIRST[part] + table.num_rows)
    table = table.append_column("id", pa.array([f"tofu-{row:04d}" for row in rows]))
    owners = pa.array([f"author-{row // AUTHOR + 1:03d}" for row in rows])
    return Split.from_table(name, table.append_column("owner", owners))


def _with_all(table: pa.Table) -> pa.Table:
    """The columns that every part has, in one form."""
    questions, answers = (table.column(c).to_pylist() for c in ("question", "answer"))
    prompts = [f"Question: {question}\nAnswer:" for question in questions]
    responses = [f" {answer}" for answer in answers]
    none = pa.nulls(len(table))
    said, wrong = (
        table.column(name) if name in table.column_names else none
        for name in ("paraphrased_answer", "perturbed_answer")
    )
    return pa.table(
        {
            "text": pa.array([a + b for a, b in zip(prompts, responses, strict=True)]),
            "question": pa.array(questions, pa.string()),
            "answer": pa.array(answers, pa.string()),
            "prompt": pa.array(prompts, pa.string()),
            "response": pa.array(responses, pa.string()),
            "paraphrased": said.cast(pa.string()),
            "perturbed": wrong.cast(pa.list_(pa.string())),
        }
    )

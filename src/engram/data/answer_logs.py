"""Losses of right and wrong answers that others exported: the evaluation logs of TOFU.

A log is one JSON object (`.json` or `.json.gz`): a part for each set of questions, and in it the
numbers of each question by its index.

    {"eval_log_forget.json": {"avg_paraphrased_loss": {"0": 1.2, ...},
                              "average_perturb_loss": {"0": [2.1, ...], ...}, ...}, ...}

The forgotten part is enough for forget quality; a model's utility needs the three others too.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from engram.core.errors import EngramError
from engram.data.files import check_regular, opened
from engram.data.sources import Limits, size

FORGOTTEN = "eval_log_forget.json"
KEPT = "eval_log.json"
OTHERS = ("eval_real_author_wo_options.json", "eval_real_world_wo_options.json")
NAMES: Mapping[str, str] = {
    KEPT: "kept records", OTHERS[0]: "real authors", OTHERS[1]: "world facts",
}  # fmt: skip
RIGHT, SAID, WRONG, ROUGE = (
    "avg_gt_loss", "avg_paraphrased_loss", "average_perturb_loss", "rougeL_recall",
)  # fmt: skip
LARGEST = 2**28
"""Bytes of a log, unpacked."""


@dataclass(frozen=True, eq=False)
class AnswerLosses:
    """Losses of the answers to some questions, nats per token.

    Attributes:
        right: Of the right answer.
        paraphrased: Of the right answer in other words.
        wrong: Of wrong answers.
        rouge: ROUGE-L recall of what the model itself answered, in [0, 1]; None: not in the log.
    """

    right: Float64[np.ndarray, " n"]
    paraphrased: Float64[np.ndarray, " n"]
    wrong: Float64[np.ndarray, "n wrong"]
    rouge: Float64[np.ndarray, " n"] | None = None


@dataclass(frozen=True, eq=False)
class AnswerLog:
    """One model's answers: to questions about the forgotten records, and maybe to others."""

    name: str
    forgotten: AnswerLosses
    others: Mapping[str, AnswerLosses]


def read_answer_log(where: str | os.PathLike[str]) -> AnswerLog:
    """The log in a file.

    Raises:
        EngramError: It is missing, no JSON, too large, lacks a part, or its columns do not fit.
    """
    path = Path(where).expanduser()
    if not path.exists():
        raise EngramError(
            f"there is no log {str(where)!r}", hint="name a .json or .json.gz file of TOFU's form"
        )
    check_regular(path)
    parts = _parsed(path)
    if FORGOTTEN not in parts:
        raise EngramError(
            f"{path} has no part {FORGOTTEN!r}; it has {', '.join(sorted(parts)) or 'none'}",
            hint="the part to be forgotten is what forget quality is measured on",
        )
    others = {NAMES[part]: _losses(parts[part], part, path) for part in NAMES if part in parts}
    return AnswerLog(path.name, _losses(parts[FORGOTTEN], FORGOTTEN, path), others)


def _parsed(path: Path) -> Mapping[str, Any]:
    most = min(LARGEST, Limits().total)
    with opened(path, path.name.endswith(".gz")) as stream:
        raw = stream.read(most + 1)
    if len(raw) > most:
        raise EngramError(f"{path} unfolds to more than {size(most)}", hint="logs are a few MB")
    try:
        found = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as problem:
        raise EngramError(
            f"{path} is not JSON ({problem})", hint="export the log again, as one JSON object"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()):
        raise EngramError(
            f"{path} does not hold an object of parts", hint=f'{{"{FORGOTTEN}": {{...}}}}'
        )
    return found


def _losses(part: Mapping[str, Any], name: str, path: Path) -> AnswerLosses:
    # Real authors and world facts have no paraphrase: the answer itself stands for it.
    said = SAID if SAID in part else RIGHT
    names = [RIGHT if RIGHT in part else said, said, WRONG, *([ROUGE] if ROUGE in part else [])]
    columns = [_column(part, column, name, path) for column in names]
    keys = list(columns[0])
    for column, values in zip(names, columns, strict=True):
        if set(values) != set(keys):
            raise EngramError(
                f"{path}, {name}: {column} has {len(values)} questions, {names[0]} {len(keys)}",
                hint="every question needs all of its numbers",
            )
    arrays = [_array([values[key] for key in keys], name, path) for values in columns]
    right, paraphrased, wrong = arrays[:3]
    if wrong.ndim != 2 or right.ndim != 1 or paraphrased.ndim != 1:
        raise EngramError(
            f"{path}, {name}: {WRONG} must be a list a question, the others one number",
            hint="export the mean loss per token of each answer",
        )
    return AnswerLosses(right, paraphrased, wrong, arrays[3] if len(arrays) > 3 else None)


def _column(part: Mapping[str, Any], column: str, name: str, path: Path) -> Mapping[str, Any]:
    values = part.get(column)
    if not isinstance(values, dict) or not values:
        raise EngramError(
            f"{path}, {name}: there is no {column}; it has {', '.join(part) or 'nothing'}",
            hint="a part needs avg_gt_loss or avg_paraphrased_loss, and average_perturb_loss",
        )
    return values


def _array(values: list[Any], name: str, path: Path) -> np.ndarray:
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise EngramError(
            f"{path}, {name}: some numbers are none, or some lists are longer than others",
            hint="every question needs the same number of wrong answers",
        ) from None
    if not np.isfinite(found).all():
        first = next(v for v in np.ravel(found) if not math.isfinite(v))
        raise EngramError(f"{path}, {name}: a number is {first}", hint="leave that question out")
    return found

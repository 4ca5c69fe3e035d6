"""Questions with right and wrong answers, made from whatever columns the records have.

Records of TOFU's form have all four: `prompt` and `response`, the response in other words
(`paraphrased`), and a list of wrong ones in the same words (`perturbed`). Where a column is not
there, something stands in for it, and `Questions.notes` says so: the response for its paraphrase,
and the responses of other records for the wrong answers. Of a record without a prompt the first
half of the words is the question, the rest the answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from engram.core import EngramError, Run, Split, Target
from engram.parts.continuations import cut_at
from engram.parts.response_examples import (
    ResponseExamples,
    has_prompts,
    prompts_and_responses,
)

PARAPHRASED, PERTURBED = "paraphrased", "perturbed"
MOST_WORDS = 256
BATCH = 32


@dataclass(frozen=True, eq=False)
class Questions:
    """What a model is asked, and what it should and should not say.

    Attributes:
        ids: The records.
        prompts: The questions.
        right: The right answers.
        paraphrased: Right answers in other words, or the same.
        wrong: Wrong answers; equally many for every question.
        notes: What stands in for a column that the records lack.
    """

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    right: tuple[str, ...]
    paraphrased: tuple[str, ...]
    wrong: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, rows: Sequence[int]) -> "Questions":
        """Some of the questions."""

        def some(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[row] for row in rows)

        return Questions(
            some(self.ids), some(self.prompts), some(self.right), some(self.paraphrased),
            some(self.wrong), self.notes,
        )  # fmt: skip


def questions_of(split: Split, rng: np.random.Generator, wrong: int = 5) -> Questions:
    """The questions in a split; records with no words to answer are left out.

    Args:
        split: With text, or prompts and responses.
        rng: Draws wrong answers where the records have none.
        wrong: How many of them.
    """
    prompts, right = _halves(split)
    rows = [row for row, (p, a) in enumerate(zip(prompts, right, strict=True)) if p and a.strip()]
    notes = []
    paraphrased = _column(split, PARAPHRASED) or [None] * len(split)
    if any(paraphrased[row] is None for row in rows):
        notes.append("the right answer stands for its paraphrase")
    given = _column(split, PERTURBED) or [None] * len(split)
    if any(not given[row] for row in rows):
        notes.append("answers of other records stand for wrong ones")
    drawn = _others([right[row] for row in rows], wrong, rng)
    listed = [given[row] or other for row, other in zip(rows, drawn, strict=True)]
    fewest = min((len(each) for each in listed), default=0)
    return Questions(
        tuple(split.ids[row] for row in rows),
        tuple(prompts[row] for row in rows),
        tuple(right[row] for row in rows),
        tuple(_spaced(paraphrased[row] or right[row], right[row]) for row in rows),
        tuple(
            tuple(_spaced(each, right[row]) for each in answers[:fewest])
            for row, answers in zip(rows, listed, strict=True)
        ),
        tuple(notes),
    )


def _halves(split: Split) -> tuple[list[str], list[str]]:
    if has_prompts(split):
        return prompts_and_responses(split)
    cuts = [cut_at(text, 0.5, MOST_WORDS) for text in split.texts]
    return [cut.prefix for cut in cuts], [" " + " ".join(cut.rest) for cut in cuts]


def _column(split: Split, name: str) -> list[Any] | None:
    if name not in split.columns:
        return None
    column = split.column(name)
    kind = column.type
    strings = pa.types.is_string(kind.value_type if pa.types.is_list(kind) else kind)
    if not strings or pa.types.is_list(kind) != (name == PERTURBED):
        wanted = "lists of strings" if name == PERTURBED else "strings"
        raise EngramError(
            f"column {name!r} of split {split.name!r} holds {kind}, not {wanted}",
            hint="paraphrased is a text, perturbed a list of wrong answers",
        )
    return column.to_pylist()


def _others(answers: list[str], count: int, rng: np.random.Generator) -> list[list[str]]:
    """For each answer, some that are not it."""
    different = list(dict.fromkeys(answers))
    found = []
    for answer in answers:
        pool = [each for each in different if each != answer]
        picked = rng.permutation(len(pool))[:count]
        found.append([pool[row] for row in picked])
    return found


def _spaced(answer: str, like: str) -> str:
    """An answer with a blank before it where the right one has it."""
    blank = like[: len(like) - len(like.lstrip())]
    return answer if answer[:1].isspace() or not blank else blank + answer


def answer_losses(
    target: Target, prompts: Sequence[str], answers: Sequence[str], run: Run
) -> Float[np.ndarray, " n"]:
    """Mean loss per token of each answer after its prompt; nats. NaN where no token is left.

    Prompt tokens are read and never counted.
    """
    split = answers_split(prompts, answers)
    settings = {"version": 1}
    return run.computed(
        "answer-losses", target, split, settings, lambda: _losses(target.model, split)
    )


def answers_split(prompts: Sequence[str], answers: Sequence[str]) -> Split:
    """Prompts with answers as records, numbered in their order."""
    columns = {
        "prompt": list(prompts),
        "response": list(answers),
        "id": [f"answer-{row:07d}" for row in range(len(prompts))],
    }
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return Split.from_table("answers", table)


def _losses(lm: Any, split: Split) -> Float[np.ndarray, " n"]:
    examples = ResponseExamples.of(lm.model, lm.tokenizer, split, lm.context, end=False)
    total, count = np.zeros(len(split)), np.zeros(len(split), np.int64)
    order = np.argsort(np.diff(examples.offsets), kind="stable")
    lm.model.eval()
    with torch.inference_mode():
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            found = examples.nll(rows).cpu().numpy().astype(np.float64)
            np.add.at(total, examples.record[rows], found)
            np.add.at(count, examples.record[rows], examples.counts[rows])
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)


@dataclass(frozen=True, eq=False)
class Answered:
    """Losses of all answers to the questions that a model could be asked.

    Attributes:
        questions: Those of them.
        right: Loss of the right answer; nats per token.
        paraphrased: Of its paraphrase.
        wrong: Of the wrong answers.
    """

    questions: Questions
    right: Float[np.ndarray, " n"]
    paraphrased: Float[np.ndarray, " n"]
    wrong: Float[np.ndarray, "n wrong"]


def answered(target: Target, questions: Questions, run: Run) -> Answered:
    """Ask a model about every answer; questions too long for its context are left out."""
    prompts, width = list(questions.prompts), len(questions.wrong[0]) if len(questions) else 0
    blocks = [list(questions.right), list(questions.paraphrased)]
    blocks += [[answers[place] for answers in questions.wrong] for place in range(width)]
    flat = [answer for block in blocks for answer in block]
    found = answer_losses(target, prompts * len(blocks), flat, run).reshape(len(blocks), -1)
    rows = np.flatnonzero(np.isfinite(found).all(0))
    found = found[:, rows]
    return Answered(questions.only(rows.tolist()), found[0], found[1], found[2:].T.copy())


def written_answers(
    target: Target, questions: Questions, run: Run, count: Callable[[str], int]
) -> list[str]:
    """What the model itself answers, always its likeliest token, at the right answer's length.

    Args:
        target: A language model that writes.
        questions: What it is asked.
        run: For its sampler.
        count: The most tokens to write for a right answer.
    """
    limits = [count(answer) for answer in questions.right]
    rng = run.stream("answers", target.fingerprint)
    return run.sampler(target, 0.0).write(list(questions.prompts), limits, rng)


def words_to_write(target: Target) -> Callable[[str], int]:
    """How many tokens the model is let write for an answer: those of the right one.

    A model behind a server does not tell its tokens; it is given three a word.
    """
    tokenizer = getattr(target.model, "tokenizer", None)
    if tokenizer is None:
        return lambda answer: 3 * max(1, len(answer.split()))
    return lambda answer: max(
        1, len(tokenizer(answer, add_special_tokens=False, verbose=False)["input_ids"])
    )

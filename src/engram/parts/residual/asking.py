"""Questions about what was forgotten, in several wordings, and how well they are answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import nn

from engram.core import Split
from engram.parts.guards import AnyGuard
from engram.parts.questions import Questions, answers_split, questions_of
from engram.parts.response_examples import ResponseExamples
from engram.parts.text_columns import lists_of
from engram.parts.unlearning import per_example
from engram.stats.owners import owner_index

REPHRASED = "rephrased"
"""The column with other prompts that have the same answer: a list of strings."""
ENOUGH = 0.5
"""The least share of whole answers that the original gives for whole answers to be counted."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions with their answers.

    Attributes:
        questions: Prompts, right and wrong answers.
        rephrased: Other prompts for each; none where there is no such column.
        owner: Whose each is.
        split: Their records.
    """

    questions: Questions
    rephrased: tuple[tuple[str, ...], ...]
    owner: Int[np.ndarray, " n"]
    split: Split

    def __len__(self) -> int:
        return len(self.questions)

    def only(self, rows: Sequence[int]) -> "Asked":
        """Some of the questions."""
        return Asked(
            self.questions.only(rows),
            tuple(self.rephrased[row] for row in rows),
            self.owner[np.asarray(rows, np.int64)],
            self.split.take(list(rows), self.split.name),
        )


def asked_of(split: Split, most: int, rng: np.random.Generator, wrong: int = 1) -> Asked:
    """At most so many questions from a split; owners stay together, as far as that goes.

    Raises:
        EngramError: `rephrased` is no list of strings.
    """
    order = rng.permutation(len(split))
    owner = owner_index(split.owners, len(split))
    place = rng.permutation(owner.max() + 1) if len(split) else owner
    rows = np.sort(order[np.argsort(place[owner[order]], kind="stable")][:most])
    some = split.take(rows.tolist(), f"{split.name}, asked")
    questions = questions_of(some, rng, wrong)
    known = {name: row for row, name in enumerate(some.ids)}
    kept = [known[name] for name in questions.ids]
    told = _rephrased(some)
    return Asked(
        questions,
        tuple(tuple(told[row]) for row in kept),
        owner_index(some.owners, len(some))[np.asarray(kept, np.int64)],
        some.take(kept, some.name),
    )


def _rephrased(split: Split) -> list[list[str]]:
    if REPHRASED not in split.columns:
        return [[] for _ in split.ids]
    hint = "give each record a list of other prompts that have the same response"
    return [list(filter(None, texts)) for texts in lists_of(split, REPHRASED, hint)]


def pairs(
    lm: Any, module: nn.Module, prompts: Sequence[str], answers: Sequence[str]
) -> ResponseExamples:
    """Prompts with answers, for a model that may be another one than `lm`'s."""
    split = answers_split(prompts, answers)
    return ResponseExamples.of(module, lm.tokenizer, split, lm.context, end=False)


def answer_scores(
    lm: Any,
    module: nn.Module,
    prompts: Sequence[str],
    answers: Sequence[str],
    *,
    whole: bool,
    guard: AnyGuard | None = None,
) -> Float[np.ndarray, " n"]:
    """How much of each answer greedy decoding writes after its prompt.

    One pass tells it: greedy decoding writes an answer exactly if each of its tokens is the
    likeliest after the true ones before it.

    Args:
        lm: The language model, for its tokenizer and context.
        module: The network to ask.
        prompts: What is asked.
        answers: The right answers.
        whole: Whether only a whole answer counts, by 1; else the share of its tokens.
        guard: Refuses some of it, if given.

    Returns:
        A number in [0, 1] for each; 0 where nothing of the answer can be asked for. One that is
        longer than the context is read in pieces.
    """
    examples = pairs(lm, module, prompts, answers)
    scores = np.zeros(len(prompts))
    if not len(examples.counts):
        return scores

    def shares(said: Any) -> Any:
        return said.means((said.logits.argmax(-1) == said.labels).float())

    found = per_example(examples, np.arange(len(examples.counts)), 64, shares)
    seen = np.bincount(examples.record, minlength=len(prompts))
    np.add.at(scores, examples.record, found)
    scores = scores / np.maximum(seen, 1)
    if whole:
        scores = (scores > 1 - 1e-6).astype(np.float64)
    if guard is not None:
        texts = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        scores = np.where([guard.blocks(text) for text in texts], 0.0, scores)
    return scores


def whole_answers(lm: Any, asked: Asked) -> bool:
    """Whether the model gives so many answers whole that these can be counted."""
    said = asked.questions
    found = answer_scores(lm, lm.model, said.prompts, said.right, whole=True)
    return bool(len(found)) and float(found.mean()) >= ENOUGH


def heads_of(lm: Any, asked: Asked) -> tuple[list[list[int]], Int[np.ndarray, " n"]]:
    """The tokens before each answer, as they are cut beside it, and the answer's first token.

    White space between the two that is a token of its own belongs to what is before. Where
    nothing of an answer can be asked for, its first token is -1, and one token stands before it.
    """
    examples = pairs(lm, lm.model, asked.questions.prompts, asked.questions.right)
    heads = [[0]] * len(asked)
    found = np.full(len(asked), -1, np.int64)
    for piece in range(len(examples.record) - 1, -1, -1):  # the first piece of each comes last
        own = slice(examples.offsets[piece], examples.offsets[piece + 1])
        flags: Any = examples.asked
        first = 1 + int(np.flatnonzero(flags[own][1:])[0])
        row = examples.record[piece]
        heads[row], found[row] = examples.tokens[own][:first].tolist(), examples.tokens[own][first]
    return heads, found

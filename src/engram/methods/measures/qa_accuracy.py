"""How often the model answers a question with exactly the right answer.

Knowledge that is only recited when the text around it comes back is of little use, and hides from
whoever looks for it by asking. So ask: give the model a question that is worded as none of its
texts, let it write its likeliest answer, and compare with the truth, letter by letter. Asked about
people whose questions it was trained on, that tests memory; asked about the others, whose texts it
read but whose questions it never saw, it tests whether knowledge can be got at.

    accuracy             = share of questions whose greedy answer, until the end token, is the truth
    first-token accuracy = share of questions whose answer's first token is the model's first choice

Answers are written in batches with keys and values kept. Blanks around an answer do not count.
Intervals resample people (owners).

Differs from the paper: Nowhere that we know.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool

from engram import families
from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.record_bootstrap import share_of_owners
from engram.parts.stated_fields import first_tokens_right
from engram.stats.owners import owner_index

NAME, FIRST = "QA accuracy", "first-token accuracy"
QUESTION, ANSWER, FIELD = "question", "answer", "field"
WORDS_TO_TOKENS = 8
"""Tokens that are written for each word of an answer, at most; one more is for the end."""


@dataclass(frozen=True)
class QaAccuracy:
    """Share of questions that are answered exactly."""

    paper: ClassVar[Paper] = Paper(
        title="Physics of Language Models: Part 3.1, Knowledge Storage and Extraction",
        authors="Allen-Zhu and Li",
        year=2024,
        url="https://arxiv.org/abs/2309.14316",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    access: ClassVar[Access] = "text"

    tokens: int = 0
    """The most tokens of an answer; 0: eight for each word of the longest right answer."""

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise EngramError(
                f"tokens is {self.tokens}, but must not be negative", hint="0 takes what is enough"
            )

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return both accuracies over all questions, and by field where there is such a column."""
        found: list[Finding] = []
        for where, split in splits.items():
            if not len(split) or not {QUESTION, ANSWER} <= set(split.columns):
                reason = "needs the columns question and answer: `biography-questions` makes them"
                missing = Finding.missing(NAME, reason, len(split))
            else:
                missing = None
                hits = {NAME: self.right(target, split, run)}
                if "tokens" in families.offered(target.family, target.model):
                    hits[FIRST] = first_tokens_right(target, split, QUESTION, ANSWER, run)
                found += self._findings(hits, split, where, run)
            if missing:
                found.append(missing.tagged(method="qa-accuracy", split=where))
        return tuple(found)

    def right(self, target: Target, split: Split, run: Run) -> Bool[np.ndarray, " n"]:
        """Which questions the model answers exactly."""
        asked = [str(text) for text in split.column(QUESTION).to_pylist()]
        truth = [str(text).strip() for text in split.column(ANSWER).to_pylist()]
        most = max(len(text.split()) for text in truth)
        limit = self.tokens or WORDS_TO_TOKENS * most + 1
        written = run.sampler(target, 0.0).write(asked, limit, run.stream("qa-accuracy"))
        pairs = zip(written, truth, strict=True)
        return np.array([given.strip() == true for given, true in pairs], bool)

    def _findings(
        self, hits: Mapping[str, Bool[np.ndarray, " n"]], split: Split, where: str, run: Run
    ) -> list[Finding]:
        owner = owner_index(split.owners, len(split))
        groups = {"": np.ones(len(split), bool)}
        if FIELD in split.columns:
            field = np.array([str(f) for f in split.column(FIELD).to_pylist()])
            groups |= {f", {name}": field == name for name in dict.fromkeys(field.tolist())}
        found = []
        for what, right in hits.items():
            for suffix, rows in groups.items():
                rng = run.stream("qa-accuracy", where, what + suffix)
                number = share_of_owners(what + suffix, right[rows], owner[rows], rng)
                found.append(number.tagged(method="qa-accuracy", split=where))
        return found

"""How often the model completes a fact in the very text that it learnt the fact from.

Before asking whether a model can *use* what it read, make sure that it *stored* it: show it the
record up to the place where a fact stands and see whether it goes on with the fact. A model that
fails here was trained too little, and nothing else that it fails at says anything.

    recall = share of (record, field) where every token of the field is argmax p(. | text before it)

A field is a column beside text and name whose value stands in the text as whole words. Each token
is judged given the true text before it, which is the same as greedy writing as long as all tokens
so far were right. Intervals resample people (owners).

Differs from the paper: 1. It reports the accuracy of the first token of a field while training;
here all tokens must be right. 2. Fields are found as the data's columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.record_bootstrap import share_of_owners
from engram.parts.stated_fields import answers_of, fact_columns

NAME = "in-template recall"


@dataclass(frozen=True)
class InTemplateRecall:
    """Share of facts that the model completes where its own records state them."""

    paper: ClassVar[Paper] = Paper(
        title="Physics of Language Models: Part 3.1, Knowledge Storage and Extraction",
        authors="Allen-Zhu and Li",
        year=2024,
        url="https://arxiv.org/abs/2309.14316",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "logits"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    fields: tuple[str, ...] = ()
    """Columns to look at; by default all of strings or whole numbers but text and name."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the recall of all fields, then of each, on every split.

        Raises:
            EngramError: A named field is not a column of the records.
        """
        found: list[Finding] = []
        for where, split in splits.items():
            tags = {"method": "in-template-recall", "split": where}
            names = fact_columns(split, self.fields)
            answers = answers_of(target, split, names, run)
            if not any(len(answers[name].exact) for name in names):
                reason = "no record states a field: columns beside the text name them"
                found.append(Finding.missing(NAME, reason).tagged(**tags))
                continue
            sides = {NAME: [answers[name] for name in names]}
            sides |= {f"{NAME}, {name}": [answers[name]] for name in names}
            for name, parts in sides.items():
                hits = np.concatenate([part.exact for part in parts])
                owner = np.concatenate([part.owner for part in parts])
                rng = run.stream("in-template-recall", where, name)
                found.append(share_of_owners(name, hits, owner, rng).tagged(**tags))
        return tuple(found)

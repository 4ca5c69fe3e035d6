"""Sessions to be filtered: what was said turn by turn, and what the model answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.core import Run, Target
from engram.parts.context_answers import answers
from engram.parts.contexts import Asked, one_text

View = Literal["each turn", "session", "output"]


@dataclass(frozen=True, eq=False)
class Sessions:
    """Some sessions with one model.

    Attributes:
        asked: What was said before each question, the question, and the right answer.
        written: What the model answered.
        right: Whether that is right.
    """

    asked: Asked
    written: tuple[str, ...]
    right: Bool[np.ndarray, " n"]

    @classmethod
    def with_model(cls, target: Target, asked: Asked, run: Run) -> "Sessions":
        """Let a model answer."""
        said = answers(target, asked, run)
        return cls(asked, said.written, said.right)

    @classmethod
    def joined(cls, several: Sequence["Sessions"]) -> "Sessions":
        """Several after each other; of equally many options."""
        asked = Asked(
            *(
                tuple(value for each in several for value in getattr(each.asked, name))
                for name in ("turns", "queries", "right", "options")
            )
        )
        written = tuple(text for each in several for text in each.written)
        return cls(asked, written, np.concatenate([each.right for each in several]))

    def __len__(self) -> int:
        return len(self.asked)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Sessions":
        """Some of them."""
        written = tuple(self.written[int(row)] for row in rows)
        return Sessions(self.asked.take(rows), written, self.right[np.asarray(rows, np.int64)])

    @property
    def outputs(self) -> list[str]:
        """The question with what was answered, without what was said before."""
        pairs = zip(self.asked.queries, self.written, strict=True)
        return [one_text([query, said]) for query, said in pairs]

    def scores(
        self, of_texts: Callable[[Sequence[str]], Float[np.ndarray, " n"]], view: View
    ) -> Float[np.ndarray, " n"]:
        """A filter's score of each session: what it sees of it depends on the view.

        Each turn by itself (the highest counts), all turns as one text, or the output.
        """
        if view == "output":
            return of_texts(self.outputs)
        if view == "session":
            return of_texts(self.asked.prompts)
        turns = zip(self.asked.turns, self.asked.queries, strict=True)
        every = [[*said, query] for said, query in turns]
        flat = of_texts([turn for turns in every for turn in turns])
        ends = np.cumsum([len(turns) for turns in every])[:-1]
        return np.array([part.max() for part in np.split(flat, ends)], np.float64)


def word_by_word(asked: Asked) -> Asked:
    """The same sessions, every word of a statement in a turn of its own."""
    return asked.before([one_text(turns).split() for turns in asked.turns])


def halves(
    owners: Int[np.ndarray, " n"], rng: np.random.Generator
) -> tuple[Int[np.ndarray, " one"], Int[np.ndarray, " other"]]:
    """Rows of two halves that share no owner."""
    different = rng.permutation(np.unique(owners))
    first = np.isin(owners, different[: len(different) // 2])
    return np.flatnonzero(first), np.flatnonzero(~first)

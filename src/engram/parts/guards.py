"""A filter beside a language model: texts that it recognises are refused, and nothing is said.

It changes no weight: whoever has the weights opens them without it. This file has what all guards
share, and the plainest: it knows what it guards by salted hashes of runs of words, so that its
file does not give away the texts themselves (though whoever has the file can guess a run and see
whether it is known).
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engram.core import TokenSignals

FILE = "guardrail.json"
KIND = "engram-guardrail"
DIGITS = 16
"""Hexadecimal digits of a mark."""


class AnyGuard(ABC):
    """What stands between a model and whoever asks it."""

    refusal: str
    """What is written instead of an answer."""

    @abstractmethod
    def blocks(self, text: str) -> bool:
        """Whether a text is refused."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Everything that decides what is refused, as plain JSON."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many numbers or marks it knows what it guards by."""

    def save(self, folder: Path) -> None:
        """Write it beside the weights."""
        text = json.dumps(self.facts(), indent=1, ensure_ascii=False) + "\n"
        (folder / FILE).write_text(text, encoding="utf-8")

    def silenced(self, found: TokenSignals, texts: Sequence[str], answers: int) -> TokenSignals:
        """What an outsider learns of each token: of a refused text, that all are equally likely."""
        refused = np.array([self.blocks(text) for text in texts], bool)
        if not refused.any():
            return found
        tokens = np.repeat(refused, found.lengths)
        blind = -float(np.log(answers))
        values: dict[str, Any] = {"logprob": blind, "mean": blind, "deviation": 0, "rank": 0}
        columns = {"token": found.token, "greedy": None, **dict.fromkeys(values)}
        for name, value in {**values, "greedy": False}.items():
            known = getattr(found, name)
            if known is not None:
                columns[name] = np.where(tokens, np.asarray(value, known.dtype), known)
        return TokenSignals(found.ids, found.offsets, **columns)


@dataclass(frozen=True)
class Guard(AnyGuard):
    """What is recognised by its runs of words, and what is said instead.

    Attributes:
        marks: Salted hashes of runs of words.
        words: Words in a run.
        share: Share of a text's runs from which on it is refused, in (0, 1].
        refusal: What is written then.
        salt: Mixed into every hash, so that lists of two guards cannot be joined.
    """

    marks: tuple[str, ...]
    words: int
    share: float
    refusal: str
    salt: str

    @classmethod
    def of(
        cls,
        texts: Iterable[str],
        others: Iterable[str],
        *,
        words: int,
        share: float,
        refusal: str,
        salt: str,
    ) -> "Guard":
        """A guard of `texts`: by the runs of words that are in none of `others`."""
        empty = cls((), words, share, refusal, salt)
        common = {mark for text in others for mark in empty.runs(text)}
        own = {mark for text in texts for mark in empty.runs(text)}
        return cls(tuple(sorted(own - common)), words, share, refusal, salt)

    @classmethod
    def read(cls, record: dict[str, Any]) -> "Guard":
        """A guard from its facts, without their kind.

        Raises:
            ValueError, TypeError, KeyError: They are not those of a guard.
        """
        guard = cls(**{**record, "marks": tuple(map(str, record["marks"]))})
        sound = (
            isinstance(guard.words, int)
            and guard.words > 0
            and 0 < float(guard.share) <= 1
            and isinstance(guard.refusal, str)
            and isinstance(guard.salt, str)
        )
        if not sound:
            raise ValueError("a value is out of range")
        return guard

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.marks)

    @property
    def size(self) -> int:
        """How many runs of words it knows."""
        return len(self.marks)

    def runs(self, text: str) -> list[str]:
        """The marks of all runs of words of a text; of a shorter text, of the whole."""
        words = re.findall(r"\w+", text.lower())
        runs = [words[i : i + self.words] for i in range(max(1, len(words) - self.words + 1))]
        return [self._mark(run) for run in runs if run]

    def _mark(self, run: Sequence[str]) -> str:
        return hashlib.sha256(f"{self.salt} {' '.join(run)}".encode()).hexdigest()[:DIGITS]

    def known_share(self, text: str) -> float:
        """The share of a text's runs that are known; 0 of a text without words."""
        marks = self.runs(text)
        return sum(mark in self._known for mark in marks) / len(marks) if marks else 0.0

    def blocks(self, text: str) -> bool:
        """Whether a text is refused: enough of it is known."""
        marks = self.runs(text)
        hits = sum(mark in self._known for mark in marks)
        return bool(hits) and hits >= self.share * len(marks)

    def facts(self) -> dict[str, Any]:
        """Everything that decides what is refused."""
        return {"kind": KIND, **asdict(self), "marks": list(self.marks)}


@dataclass(frozen=True, eq=False)
class GuardedWriter:
    """Text access through a guard; implements `engram.core.Sampler`."""

    writer: Any
    guard: AnyGuard

    def write(
        self, prompts: Sequence[str], tokens: Sequence[int] | int, rng: np.random.Generator
    ) -> list[str]:
        """As the writer does; where the guard knows prompt and answer, its refusal instead."""
        written = self.writer.write(prompts, tokens, rng)
        return [
            self.guard.refusal if self.guard.blocks(prompt + said) else said
            for prompt, said in zip(prompts, written, strict=True)
        ]

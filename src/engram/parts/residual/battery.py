"""All ways of looking for forgotten knowledge, asked of three models."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engram.core import Run, Target
from engram.parts.layer_states import layer_states, states_after
from engram.parts.linear_probe import probe_hits
from engram.parts.residual.asking import (
    Asked,
    answer_scores,
    heads_of,
    whole_answers,
)
from engram.parts.residual.lens import last_norm, lens_ranks
from engram.parts.residual.relearning import relearnt
from engram.parts.residual.rounding import rounded
from engram.stats.residual import Part, Reading, best_layer, minus_steps

Scores = Float[np.ndarray, "... n"]
ANSWER, TRUTH, LENS = "answer probe", "truth probe", "logit lens"
REWORDED, SHOTS = "reworded questions", "examples before the question"
FROM_FEW, FROM_KEPT, FROM_ALL = (
    f"relearning from {what}" for what in ("a few", "kept records", "all")
)
Rows = Callable[[Asked], tuple[Any, Any]]
LEAST = 8
"""Fewer kept questions teach a probe nothing."""


@dataclass(frozen=True)
class Effort:
    """How hard to look.

    Attributes:
        shots: Kept questions with answers that stand before a question.
        bits: To which weights are rounded.
        steps: The most steps of relearning.
        every: Steps between two looks at what is relearnt.
        learning_rate: Of relearning.
        share: Share of the owners (or questions) that "a few" are, in (0, 1).
    """

    shots: int
    bits: tuple[int, ...]
    steps: int
    every: int
    learning_rate: float
    share: float


@dataclass(frozen=True, eq=False)
class Subject:
    """A model, and the questions that it is asked.

    Attributes:
        target: The model.
        asked: The questions.
    """

    target: Target
    asked: Asked

    @property
    def lm(self) -> Any:
        """The language model itself."""
        return self.target.model

    @cached_property
    def before(self) -> Float[np.ndarray, "layers n width"]:
        """States from which the answers' first tokens are predicted."""
        return states_after(self.lm, self._heads[0])

    @cached_property
    def statements(self) -> tuple[Any, Any]:
        """States after right and after wrong answers."""
        said = self.asked.questions
        sides = (said.right, [answers[0] for answers in said.wrong])
        right, wrong = (
            layer_states(self.lm, [p + a for p, a in zip(said.prompts, side, strict=True)])
            for side in sides
        )
        return right, wrong

    @cached_property
    def first(self) -> Int[np.ndarray, " n"]:
        """The first token of each answer; -1 where none fits."""
        return self._heads[1]

    @cached_property
    def _heads(self) -> tuple[list[list[int]], Int[np.ndarray, " n"]]:
        return heads_of(self.lm, self.asked)


@dataclass(frozen=True, eq=False)
class Battery:
    """Three models, and what they are asked.

    Attributes:
        target: The model that was made to forget, and questions about the forgotten.
        control: A model that never saw them with the same questions; or the target itself, with
            questions about records that nobody saw.
        original: The model before, and questions about the forgotten.
        kept: Questions about records that stay; probes learn from them.
        effort: How hard to look.
        run: Randomness.
        paired: Whether the control has the same questions.
    """

    target: Subject
    control: Subject
    original: Subject
    kept: Asked
    effort: Effort
    run: Run
    paired: bool

    @cached_property
    def whole(self) -> bool:
        """Whether whole answers are counted, or shares of their tokens."""
        return whole_answers(self.original.lm, self.original.asked)

    def scores(self, of: Subject) -> Scores:
        """How much of each answer it gives, through whatever guards it."""
        asked = of.asked.questions
        return answer_scores(
            of.lm, of.lm.model, asked.prompts, asked.right, whole=self.whole, guard=of.lm.guard
        )

    def behaviour(self) -> Part:
        """What it answers when it is asked plainly."""
        return self._part("plain questions", self.scores)

    def left_out(self) -> Mapping[str, str]:
        """Ways of looking that there is nothing for, and why."""
        few, asked = len(self.kept) < LEAST, self.target.asked
        kept = f"{len(self.kept)} kept questions are too few to learn from" * few
        reasons = {
            ANSWER: kept,
            TRUTH: kept or "there are no wrong answers" * (not asked.questions.wrong[0]),
            LENS: "no last normalisation was found" * (last_norm(self.original.lm.model) is None),
            REWORDED: "the records have no column rephrased" * (not all(asked.rephrased)),
            SHOTS: kept or "shots is 0" * (not self.effort.shots),
            FROM_KEPT: kept,
        }
        return {name: reason for name, reason in reasons.items() if reason}

    def parts(self) -> Iterator[Part]:
        """Every way of looking that there is something for."""
        ways: dict[str, Callable[[Subject], Scores]] = {
            ANSWER: self._answer_probe,
            TRUTH: self._truth_probe,
            LENS: self._lens,
            REWORDED: self._reworded,
            SHOTS: self._shots,
            **{f"{bits}-bit weights": partial(self._rounded, bits) for bits in self.effort.bits},
        }
        missing = self.left_out()
        for name, way in ways.items():
            if name not in missing:
                yield self._part(name, way)
        yield self._relearning(FROM_FEW, self._few)
        if FROM_KEPT not in missing:
            yield self._relearning(FROM_KEPT, None)

    def beside(self) -> Iterator[Part]:
        """What is told beside the index, since it varies between models that know the same."""
        if self.paired:
            yield self._relearning(FROM_ALL, lambda asked: (range(len(asked)),) * 2)

    def _part(self, name: str, of: Callable[[Subject], Scores], read: Reading = best_layer) -> Part:
        made = [self._read(name, each, of) for each in (self.target, self.control, self.original)]
        return Part(name, made[0], made[1], made[2], read, self.paired)

    def _read(
        self, name: str, of: Subject, how: Callable[[Subject], Scores], **more: float
    ) -> Scores:
        """What is read of one model: once, then found in the store."""
        settings = {
            "effort": asdict(self.effort),
            "kept": self.kept.split.fingerprint,
            "whole": self.whole,
            "seed": self.run.seed,
            "version": 2,
            **more,
        }
        made = self.run.computed(
            f"residual: {name}",
            of.target,
            of.asked.split,
            settings,
            lambda: np.ascontiguousarray(np.moveaxis(how(of), -1, 0)),
        )
        return np.moveaxis(np.asarray(made), 0, -1)

    def _learnt_from(self, of: Subject) -> Subject:
        """The kept questions, beside the same model."""
        known = self.__dict__.setdefault("_kept_of", {})
        return known.setdefault(id(of.lm), Subject(of.target, self.kept))

    def _answer_probe(self, of: Subject) -> Scores:
        """Whether a probe that learnt the kept answers' first tokens finds the forgotten one's."""
        kept = self._learnt_from(of)
        fits = kept.first >= 0
        hits = probe_hits(kept.before[:, fits], kept.first[fits], of.before, of.first)
        return hits.astype(np.float64)

    def _truth_probe(self, of: Subject) -> Scores:
        """Share of right and wrong statements that a probe, taught by kept ones, tells apart."""
        right, wrong = self._learnt_from(of).statements
        labels = np.repeat([1, 0], [right.shape[1], wrong.shape[1]])
        asked = np.concatenate(of.statements, 1)
        truth = np.repeat([1, 0], asked.shape[1] // 2)
        hits = probe_hits(np.concatenate([right, wrong], 1), labels, asked, truth)
        return hits.reshape(len(hits), 2, -1).mean(1)

    def _lens(self, of: Subject) -> Scores:
        fits = of.first >= 0
        found = lens_ranks(of.lm.model, of.before, np.maximum(of.first, 0))
        return np.where(fits, found, 0.0)

    def _reworded(self, of: Subject) -> Scores:
        """The best of all wordings for each question: whoever looks tries all of them."""
        flat = [
            (text, answer)
            for texts, answer in zip(of.asked.rephrased, of.asked.questions.right, strict=True)
            for text in texts
        ]
        found = answer_scores(
            of.lm,
            of.lm.model,
            [text for text, _ in flat],
            [answer for _, answer in flat],
            whole=self.whole,
            guard=of.lm.guard,
        )
        ends = np.cumsum([0, *(len(texts) for texts in of.asked.rephrased)])
        return np.array([found[a:b].max(initial=0.0) for a, b in pairwise(ends.tolist())])

    def _shots(self, of: Subject) -> Scores:
        """Kept questions with their answers, then the question."""
        rng = self.run.stream("residual", "shots")
        kept, asked = self.kept.questions, of.asked.questions
        prompts = []
        for prompt in asked.prompts:
            rows = rng.choice(len(kept), min(self.effort.shots, len(kept)), replace=False)
            shown = "".join(f"{kept.prompts[row]}{kept.right[row]}\n" for row in rows.tolist())
            prompts.append(shown + prompt)
        return answer_scores(
            of.lm, of.lm.model, prompts, asked.right, whole=self.whole, guard=of.lm.guard
        )

    def _rounded(self, bits: int, of: Subject) -> Scores:
        asked = of.asked.questions
        model = rounded(of.lm.model, bits)
        return answer_scores(of.lm, model, asked.prompts, asked.right, whole=self.whole)

    def _few(self, asked: Asked) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a few owners' questions, and of all others'; of one owner, a few questions."""
        owners = np.unique(asked.owner)
        units = asked.owner if len(owners) > 1 else np.arange(len(asked))
        whose = np.unique(units)
        drawn = self.run.stream("residual", "few").permutation(len(whose))
        taken = whose[drawn[: max(1, round(self.effort.share * len(whose)))]]
        few = np.isin(units, taken)
        return np.flatnonzero(few), np.flatnonzero(~few)

    def _relearning(self, name: str, rows: Rows | None) -> Part:
        """Steps until a half of what the original answers is answered.

        Args:
            name: What it is called.
            rows: Which questions are taught, and which judged; None: the kept ones are taught.
        """
        everything = np.arange(len(self.target.asked))
        judged = everything if rows is None else _numbers(rows(self.target.asked)[1])
        threshold = 0.5 * float(self.scores_bare(self.original)[judged].mean())
        effort = self.effort

        def looks(of: Subject) -> Scores:
            asked = np.arange(len(of.asked)) if rows is None else _numbers(rows(of.asked)[1])
            teach = (
                self.kept if rows is None else of.asked.only(_numbers(rows(of.asked)[0]).tolist())
            )
            found = relearnt(
                of.lm, teach, of.asked.only(asked.tolist()), whole=self.whole,
                steps=effort.steps, every=effort.every, learning_rate=effort.learning_rate,
                threshold=threshold, run=self.run, purpose=name,
            )  # fmt: skip
            whole = np.full((len(found), len(of.asked)), np.nan)
            whole[:, asked] = found
            return whole

        seen = [
            self._read(name, each, looks, threshold=threshold)
            for each in (self.target, self.control)
        ]
        before = np.where(np.isnan(seen[0]), np.nan, 1.0)
        return Part(
            name, seen[0], seen[1], before, minus_steps(threshold, effort.every), self.paired
        )

    def scores_bare(self, of: Subject) -> Scores:
        """As `scores`, of the weights alone."""
        asked = of.asked.questions
        return answer_scores(of.lm, of.lm.model, asked.prompts, asked.right, whole=self.whole)


def _numbers(rows: Any) -> Int[np.ndarray, " _"]:
    return np.asarray(rows, np.int64)

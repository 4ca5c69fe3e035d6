"""Questions of multiple choice: which of its options a causal language model finds likeliest.

A model that was never taught to write an answer alone can still be asked which of a few answers
it would rather read after a question. What it gives them is compared, and nothing else.

    score(o) = log p(o | prompt) = sum over the tokens of o of log p(o_t | prompt, o_<t),   in nats
    chosen   = the option of the highest score;   p(o) = exp score(o) / sum over options

Per token, the score is divided by the option's number of tokens. The end of the text is not asked
for: an option is not judged by whether the model would stop after it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from engram.core import EngramError, Run, Split, Target
from engram.parts.language_model import LanguageModel
from engram.parts.response_examples import ResponseExamples, prompts_and_responses
from engram.parts.text_columns import lists_of

OPTIONS, TASK = "options", "task"
BATCH = 256
"""Answers that are read together; fewer where they do not fit into memory."""


def has_options(split: Split) -> bool:
    """Whether the records say which answers they may have."""
    return OPTIONS in split.columns


@dataclass(frozen=True, eq=False)
class Choices:
    """Questions with their options.

    Attributes:
        prompts: All that stands before the answer.
        options: The answers of each question, with the white space that parts them from it.
        truth: Which of them is right; (n,).
        tasks: What kind of question each is; "" where the records do not say.
    """

    prompts: Sequence[str]
    options: Sequence[Sequence[str]]
    truth: Int[np.ndarray, " n"]
    tasks: Sequence[str]

    @classmethod
    def of(cls, split: Split) -> "Choices":
        """Read prompt, response and options of every record; white space around them is no matter.

        Raises:
            EngramError: No column `options` of lists of texts; a record with fewer than two
                options, with the same one twice, or with an answer that is none of them.
        """
        if not has_options(split):
            raise EngramError(
                f"split {split.name!r} has no column 'options'; it has {', '.join(split.columns)}",
                hint="give every record a list of at least two answers to choose from, beside its "
                "prompt and its response",
            )
        prompts, responses = prompts_and_responses(split)
        options, truth = [], []
        for row, (response, given) in enumerate(zip(responses, _listed(split), strict=True)):
            own = [str(option).strip() for option in given]
            _check(split, row, own, response)
            space = response[: len(response) - len(response.lstrip())]
            options.append([space + option for option in own])
            truth.append(own.index(response.strip()))
        told = split.column(TASK).to_pylist() if TASK in split.columns else [""] * len(split)
        tasks = ["" if task is None else str(task) for task in told]
        return cls(prompts, options, np.array(truth, np.int64), tasks)

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Int[np.ndarray, " chosen"]) -> "Choices":
        """These questions alone."""
        return Choices(
            [self.prompts[i] for i in rows],
            [self.options[i] for i in rows],
            self.truth[rows],
            [self.tasks[i] for i in rows],
        )

    @property
    def answers(self) -> list[str]:
        """The right answers."""
        return [own[place] for own, place in zip(self.options, self.truth, strict=True)]

    @property
    def most(self) -> int:
        """The most options that a question has."""
        return max(map(len, self.options), default=0)

    def rows(self, task: str) -> Int[np.ndarray, " _"]:
        """The questions of one task."""
        return np.flatnonzero(np.array([each == task for each in self.tasks], bool))

    @cached_property
    def chance(self) -> float:
        """The share that is right without understanding; each task has its own."""
        parts = [self.rows(task) for task in dict.fromkeys(self.tasks)]
        found = [
            len(rows) * chance([self.answers[i] for i in rows], [self.options[i] for i in rows])
            for rows in parts
        ]
        return sum(found) / len(self) if len(self) else 0.0


def chance(answers: Sequence[str], options: Sequence[Sequence[str]]) -> float:
    """The larger of two blind guesses' accuracies: at random, and always the commonest answer.

    Args:
        answers: The right answer of each question of a task; at least one.
        options: The options of each.
    """
    blind = float(np.mean([1 / len(own) for own in options]))
    return max(blind, Counter(answers).most_common(1)[0][1] / len(answers))


def chosen(logprobs: Float[np.ndarray, "n most"]) -> Int[np.ndarray, " n"]:
    """The likeliest option of each question; the first of equals."""
    return logprobs.argmax(1)


def right(
    logprobs: Float[np.ndarray, "n most"], truth: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Which questions are answered as the truth is."""
    return chosen(logprobs) == truth


def confidence(logprobs: Float[np.ndarray, "n most"]) -> Float[np.ndarray, " n"]:
    """The share of the likeliest option in the probability of all options, in [1 / options, 1]."""
    relative = np.exp(logprobs - logprobs.max(1, keepdims=True))
    return 1 / relative.sum(1)


def option_logprobs(
    target: Target, split: Split, run: Run, per_token: bool = False
) -> Float[np.ndarray, "n most"]:
    """The score of every option of a split, asked once and then stored; see `Offered.logprobs`."""

    def work() -> Float[np.ndarray, "n most"]:
        return Offered.to(target.model, Choices.of(split)).logprobs(per_token)

    return run.computed("choice-logprobs", target, split, {"per_token": per_token}, work)


@dataclass(frozen=True, eq=False)
class Offered:
    """All options of some questions as texts, beside the model that is asked about them.

    Attributes:
        choices: The questions.
        examples: Prompt and option, one text an option, question by question.
        asked: The question of each text; (texts,).
        place: Which of its options it is; (texts,).
    """

    choices: Choices
    examples: ResponseExamples
    asked: Int[np.ndarray, " texts"]
    place: Int[np.ndarray, " texts"]

    @classmethod
    def to(cls, model: LanguageModel, choices: Choices) -> "Offered":
        """Tokenise every option after its prompt.

        Raises:
            EngramError: An option has no token that is its own.
        """
        pairs = [
            (row, place) for row, own in enumerate(choices.options) for place in range(len(own))
        ]
        prompts = [choices.prompts[row] for row, _ in pairs]
        texts = [choices.options[row][place] for row, place in pairs]
        whole = [a + b for a, b in zip(prompts, texts, strict=True)]
        made = Split.of("options", text=whole, prompt=prompts, response=texts)
        # A blank is one token with the word after it here, and by itself there: asked for in both.
        examples = ResponseExamples.of(
            model.model, model.tokenizer, made, model.context, end=False, blanks=True
        )
        if missing := set(range(len(pairs))) - set(examples.record.tolist()):
            row, place = pairs[min(missing)]
            raise EngramError(
                f"option {choices.options[row][place]!r} of question {row + 1} has no token that "
                "begins after the prompt",
                hint="let a blank part the prompt and its answers",
            )
        asked, place = np.array(pairs, np.int64).reshape(-1, 2).T
        return cls(choices, examples, asked, place)

    def logprobs(self, per_token: bool = False) -> Float[np.ndarray, "n most"]:
        """The score of every option, in nats; minus infinity where a question has no such option.

        Args:
            per_token: Whether to divide by the option's number of tokens.
        """
        network, training = self.examples.model, self.examples.model.training
        network.eval()
        with torch.no_grad():
            totals = self._shared() if self._alike else self._apart()
        network.train(training)
        if per_token:
            sizes = np.zeros(len(totals))
            np.add.at(sizes, self.examples.record, self.examples.counts)
            totals = totals / sizes
        table = np.full((len(self.choices), self.choices.most), -np.inf)
        table[self.asked, self.place] = totals
        return table

    @cached_property
    def _alike(self) -> bool:
        """Whether every option is one token, after the same tokens as the question's others."""
        examples = self.examples
        if len(examples.record) != len(self.asked) or (examples.counts != 1).any():
            return False
        lasts = examples.offsets[1:] - 1
        if not examples.asked[lasts].all():  # type: ignore[index]
            return False
        first = np.searchsorted(self.asked, self.asked)
        spans = [examples.tokens[a:b] for a, b in zip(examples.offsets, lasts, strict=False)]
        return all(np.array_equal(span, spans[i]) for span, i in zip(spans, first, strict=True))

    def _shared(self) -> Float[np.ndarray, " texts"]:
        """Every question is read once, and all its options are looked up where it ends."""
        examples, found = self.examples, np.zeros(len(self.asked))
        firsts = np.flatnonzero(self.place == 0)
        token = examples.tokens[examples.offsets[1:] - 1]
        for rows in _batches(examples.lengths[firsts]):
            for chunk in examples.chunks(firsts[rows]):
                said = examples.predictions(chunk).logprobs.double().cpu().numpy()
                for logprob, first in zip(said, chunk, strict=True):
                    own = first + np.arange(len(self.choices.options[self.asked[first]]))
                    found[own] = logprob[token[own]]
        return found

    def _apart(self) -> Float[np.ndarray, " texts"]:
        """Every option is read after its prompt."""
        examples, found = self.examples, np.zeros(len(self.asked))
        for rows in _batches(examples.lengths):
            for chunk in examples.chunks(rows):
                nll = examples.nll(chunk).double().cpu().numpy()
                np.add.at(found, examples.record[chunk], -nll)
        return found


def _batches(sizes: Int[np.ndarray, " n"]) -> list[Int[np.ndarray, " _"]]:
    order = np.argsort(sizes, kind="stable")
    return [order[i : i + BATCH] for i in range(0, len(order), BATCH)]


def _listed(split: Split) -> list[list[str]]:
    return lists_of(
        split, OPTIONS, 'write them as ["yes", "no"]; JSONL and Parquet keep lists, CSV does not'
    )


def _check(split: Split, row: int, own: Sequence[str], response: str) -> None:
    """Refuse options that leave nothing to choose, or not the right answer."""
    record = f"record {split.ids[row]!r} of split {split.name!r}"
    if len(own) < 2:
        raise EngramError(
            f"{record} has {len(own)} option{'s' * (len(own) != 1)}",
            hint="there is nothing to choose from: give it two at least",
        )
    if len(set(own)) < len(own) or "" in own:
        raise EngramError(
            f"{record} has an option that is empty or comes twice: {', '.join(map(repr, own))}",
            hint="the options of a record must be different texts",
        )
    if response.strip() not in own:
        raise EngramError(
            f"{record} has the answer {response.strip()!r}, which is none of its options "
            f"({', '.join(map(repr, own))})",
            hint="the right answer must be among the options, as it is written there",
        )

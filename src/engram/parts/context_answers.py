"""How a language model answers questions after what was put before them, asked in two ways.

What it is capable of shows in the log-probabilities of the answers that are offered; what its
user gets, in what it writes. A model that refuses, or that stands behind a guard, may well know:
refusals are counted apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from engram.core import Run, Target
from engram.parts.contexts import Asked
from engram.parts.questions import answer_losses, words_to_write
from engram.parts.refusals import begins_with_refusal
from engram.parts.response_examples import joined

ROOM = 12
"""Tokens that are written at least: a refusal is known by its first words."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model made of some questions.

    Attributes:
        chosen: Whether the right answer is the likeliest of those offered, per token.
        written: What it writes, always the likeliest token.
        right: Whether that begins with the right answer.
        refused: Whether it is a refusal.
    """

    chosen: Bool[np.ndarray, " n"]
    written: tuple[str, ...]
    right: Bool[np.ndarray, " n"]
    refused: Bool[np.ndarray, " n"]


def answers(target: Target, asked: Asked, run: Run) -> Answers:
    """Ask about every option, and let the model write.

    Options are asked of the model itself, whatever guard it has; writing passes the guard.
    """
    written = tuple(in_writing(target, asked, run))
    refusal = getattr(getattr(target.model, "guard", None), "refusal", "")
    refused = np.array([begins_with_refusal(text, refusal) for text in written], bool)
    pairs = zip(written, asked.right, strict=True)
    right = np.array([says(text, answer) for text, answer in pairs], bool)
    return Answers(chosen(option_losses(target, asked, run)), written, right & ~refused, refused)


def option_losses(target: Target, asked: Asked, run: Run) -> Float[np.ndarray, "n options"]:
    """Mean loss per token of each option after its prompt; nats."""
    width = len(asked.options[0]) if len(asked) else 0
    prompts = [prompt for prompt in asked.prompts for _ in range(width)]
    flat = [option for each in asked.options for option in each]
    return answer_losses(target, prompts, flat, run).reshape(len(asked), width)


def chosen(losses: Float[np.ndarray, "n options"]) -> Bool[np.ndarray, " n"]:
    """Whether the first option is likelier than every other; a tie, or no number, is not."""
    with np.errstate(invalid="ignore"):
        return (losses[:, :1] < losses[:, 1:]).all(1)


def in_writing(target: Target, asked: Asked, run: Run) -> list[str]:
    """What the model writes after each prompt."""
    pairs = list(zip(asked.prompts, asked.right, strict=True))
    # As options are asked: with what stands between a question and its answer.
    prompts = [joined(prompt, answer)[: -len(answer) or None] for prompt, answer in pairs]
    count = words_to_write(target)
    limits = [max(ROOM, count(answer)) for _, answer in pairs]
    return run.sampler(target, 0.0).write(prompts, limits, run.stream("context-answers"))


def says(text: str, answer: str) -> bool:
    """Whether a text begins with an answer, as whole words and in the same case."""
    said, wanted = text.split(), answer.split()
    return bool(wanted) and [_bare(word) for word in said[: len(wanted)]] == [
        _bare(word) for word in wanted
    ]


def _bare(word: str) -> str:
    return word.strip(".,;:!?\"'")


def correct_shares(found: Sequence[Answers]) -> Float[np.ndarray, " models"]:
    """The share of questions that each model answers by choosing."""
    return np.array([float(each.chosen.mean()) for each in found])

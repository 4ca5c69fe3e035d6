"""Ways of looking for what a language model should have forgotten, beside asking it."""

from engram.parts.residual.asking import Asked, answer_scores, asked_of, whole_answers
from engram.parts.residual.battery import Battery, Effort, Subject
from engram.parts.residual.lens import lens_ranks
from engram.parts.residual.relearning import relearnt
from engram.parts.residual.rounding import rounded

__all__ = [
    "Asked",
    "Battery",
    "Effort",
    "Subject",
    "answer_scores",
    "asked_of",
    "lens_ranks",
    "relearnt",
    "rounded",
    "whole_answers",
]

"""How soon tuning brings back what was forgotten; a model that never saw it is the yardstick."""

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from engram.core import Run
from engram.parts.residual.asking import Asked, answer_scores, pairs
from engram.parts.training import Epochs

BATCH = 16
FAR = 1.6
"""Tuning goes on until the mean is so many times the threshold: a resample is reached later."""


def relearnt(
    lm: Any,
    taught: Asked,
    judged: Asked,
    *,
    whole: bool,
    steps: int,
    every: int,
    learning_rate: float,
    threshold: float,
    run: Run,
    purpose: str,
) -> Float[np.ndarray, "looks n"]:
    """Scores of the judged questions before tuning on the taught ones, and every few steps of it.

    Args:
        lm: The language model; it stays as it is. What guards it is left aside.
        taught: Questions that are tuned on: prompts are read, answers are learnt.
        judged: Questions that are asked.
        whole: As in `answer_scores`.
        steps: The most steps.
        every: Steps between two looks.
        learning_rate: Of AdamW, constant.
        threshold: The mean score that is waited for.
        run: Randomness; the order of the batches is that of `purpose`, the same for all models.
        purpose: What for.

    Returns:
        One row a look, the first before any step. After the last look that was needed its scores
        are repeated.
    """
    model: Any = deepcopy(lm.model).float().eval()
    model.requires_grad_(True)
    teach, judge = taught.questions, judged.questions
    examples = pairs(lm, model, teach.prompts, teach.right)
    epochs = Epochs(examples, BATCH, run, purpose)
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)

    def look() -> Float[np.ndarray, " n"]:
        return answer_scores(lm, model, judge.prompts, judge.right, whole=whole)

    looks = [look()]
    for step in range(steps):
        if looks[-1].mean() >= min(FAR * threshold, 0.98):
            break
        rows: Int[np.ndarray, " rows"] = epochs.rows(step)
        optimiser.zero_grad()
        for chunk in examples.chunks(rows):
            (examples.predictions(chunk).nll.sum() / len(rows)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % every == 0:
            looks.append(look())
            run.progress(step + 1, steps, "relearning")
    wanted = 1 + steps // every
    return np.stack([*looks, *[looks[-1]] * (wanted - len(looks))])

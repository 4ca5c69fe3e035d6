"""What foretells whether forgetting some uses of a skill takes the skill away.

Teach a model random answers to some questions of a task: of some tasks it then fails every
question, of others only those. The paper finds that this can be foretold from the model *before*
it forgets. The surer it is of its answers, and the more its states differ from question to
question, the less forgetting spreads; how hard the task is tells little. So measure the three:

    confidence     = mean over questions of  max over options of p(o | prompt) / sum of p(options)
    total variance = trace cov(h) / mean |h|^2,   h = last hidden state at the prompt's last token
    difficulty     = 1 - accuracy

Records need the columns prompt, response and options; a column task tells tasks apart.

Differs from the paper: The variance is divided by the mean squared norm, so that models and tasks
can be compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.choices import Choices, confidence, has_options, option_logprobs, right
from engram.parts.layer_states import layer_states
from engram.parts.response_examples import has_prompts
from engram.stats.forgetting import total_variance
from engram.stats.intervals import mean_finding, proportion

CONFIDENCE, VARIANCE, DIFFICULTY = "confidence", "total variance", "difficulty"
RESAMPLES = 200


@dataclass(frozen=True)
class ForgetPredictors:
    """Confidence, variability of states and difficulty, task by task."""

    paper: ClassVar[Paper] = Paper(
        title="Unforgettable Generalization in Language Models",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2409.02228",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "weights"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    per_token: bool = False
    """Whether an option's log-probability is divided by its number of tokens."""

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the three numbers over all questions, then of each task."""
        target.require("weights", "forget-predictors")
        found: list[Finding] = []
        for where, split in splits.items():
            if len(split) < 2 or not (has_prompts(split) and has_options(split)):
                reason = "needs two records with the columns prompt, response and options"
                numbers = [Finding.missing(CONFIDENCE, reason, len(split))]
            else:
                numbers = self._of(target, split, where, run)
            found += [number.tagged(method="forget-predictors", split=where) for number in numbers]
        return tuple(found)

    def _of(self, target: Target, split: Split, where: str, run: Run) -> list[Finding]:
        choices = Choices.of(split)
        logprobs = option_logprobs(target, split, run, self.per_token)
        sure, hits = confidence(logprobs), right(logprobs, choices.truth)
        states = run.computed(
            "last-states",
            target,
            split,
            {},
            lambda: layer_states(target.model, choices.prompts)[-1],
        )
        found = []
        for task in ("", *dict.fromkeys(filter(None, choices.tasks))):
            rows = choices.rows(task) if task else np.arange(len(split))
            suffix, rng = f", {task}" if task else "", run.stream("forget-predictors", where, task)
            found.append(mean_finding(sure[rows], CONFIDENCE + suffix, "", rng))
            found.append(spread(states[rows], VARIANCE + suffix, rng))
            wrong = int((~hits[rows]).sum())
            found.append(proportion(wrong, len(rows), DIFFICULTY + suffix))
        return found


def spread(states: np.ndarray, name: str, rng: np.random.Generator) -> Finding:
    """The total variance, with the interval of resampled records."""
    n = len(states)
    if n < 2:
        return Finding.missing(name, "two records are needed", n)
    value = total_variance(states)
    drawn = [total_variance(states[pick]) for pick in rng.integers(n, size=(RESAMPLES, n))]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Finding(name, value, min(float(low), value), max(float(high), value), n)

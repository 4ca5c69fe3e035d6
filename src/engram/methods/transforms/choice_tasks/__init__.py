"""Make eight tasks of multiple choice that a small model can learn, one of them by heart only.

What becomes of a skill when a model unlearns some uses of it? To see that, one must know what is
to be learnt, and which questions of a kind were learnt from. So make up eight kinds of questions:
seven have a rule (is a number even, do digits ascend, are all brackets closed, ...), and one has
none: in which city a person lives. A rule answers questions that were never asked before; a fact is
known for every person by itself.

    text = "<task> : <question> =" + " <answer>",    each answer of a task equally often
    of a city: the right one and three of the other 31, in random order

The columns are text, prompt, response, options and task. No question is of both parts: `train` to
learn from and to forget, and `test`. Nobody can know the city of a person of the test part who was
not told, so `learn` has those questions beside all of the train part. Owners are the persons who
are asked about; a question of another task is its own. The given records are not looked at.

Differs from the paper:
1. Its 21 tasks are published sets of questions; these are made up, and small enough for models
   that are trained from scratch.
2. The classes of `bins` come from scikit-learn's `make_classification`, its 20 features written as
   one of four letters each.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Literal, get_args

import numpy as np

from engram.core import EngramError, Paper, Run, Split, nearest
from engram.methods.transforms.choice_tasks.tasks import TASKS, Task
from engram.parts.training import check_at_least, check_one_of

Part = Literal["learn", "train", "test"]
PATIENCE = 20
"""Questions that are drawn for each that is wanted, before a task is said to have no more."""
Question = tuple[str, str, int, tuple[str, ...]]
"""What is asked, the answer, a number, and the options."""


@dataclass(frozen=True)
class ChoiceTasks:
    """Questions of up to eight small tasks, with options."""

    paper: ClassVar[Paper] = Paper(
        title="Unforgettable Generalization in Language Models",
        authors="Zhang et al.",
        year=2024,
        url="https://arxiv.org/abs/2409.02228",
    )

    makes_records: ClassVar[bool] = True
    """It needs no records to start from."""

    tasks: tuple[str, ...] = ()
    """parity, extremes, order, residence, brackets, bins, copy, majority; empty: all of them."""
    train: int = 1000
    """Questions of each task to learn from."""
    test: int = 200
    """Questions of each task that are of the other part."""
    part: Part = "learn"
    """train; test; or learn: train, and the facts that the questions of test ask for."""

    def __post_init__(self) -> None:
        for name in self.tasks:
            if name not in TASKS:
                raise EngramError(
                    f"there is no task called {name!r}",
                    hint=nearest(name, list(TASKS), f"there are {', '.join(TASKS)}"),
                )
        check_one_of("part", self.part, get_args(Part))
        check_at_least("train", self.train, 1, "1,000 are learnt by a small model")
        check_at_least("test", self.test, 1, "200 tell an accuracy to within 0.07")

    def __call__(self, split: Split, run: Run) -> Split:
        """Return the questions; `split` is not looked at."""
        rows: list[dict[str, object]] = []
        for name in dict.fromkeys(self.tasks or TASKS):
            task, rng = TASKS[name], run.stream("choice-tasks", name)
            train, test = drawn(name, task, self.train, self.test, rng)
            wanted = {"train": train, "test": test, "learn": train + test * task.recalled}
            rows += [_row(name, task, *each) for each in wanted[self.part]]
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        return Split.of("choice tasks", **columns)  # type: ignore[arg-type]


def drawn(
    name: str, task: Task, train: int, test: int, rng: np.random.Generator
) -> tuple[list[Question], list[Question]]:
    """Different questions of two parts; each answer of a task comes equally often in either.

    Raises:
        EngramError: The task has not got so many different questions.
    """
    quotas = [_quota(task.options, n) for n in (train, test)]
    needed = quotas[0] + quotas[1]
    seen: set[str] = set()
    found: dict[str, list[tuple[str, str]]] = {option: [] for option in task.options}
    draws = task.draw(rng, train + test)
    for asked, answer in islice(draws, PATIENCE * (train + test) + 1000):
        if asked not in seen and len(found[answer]) < needed[answer]:
            seen.add(asked)
            found[answer].append((asked, answer))
        if len(seen) == train + test:
            break
    else:
        raise EngramError(
            f"task {name!r} has not got {train + test} different questions: {len(seen)} were found",
            hint="ask for fewer with --train and --test",
        )
    parts: tuple[list[Question], ...] = ([], [])
    for place, quota in enumerate(quotas):
        own = [found[option].pop() for option in task.options for _ in range(quota[option])]
        first = place * train
        order = rng.permutation(len(own))
        for number, i in enumerate(order):
            parts[place].append((*own[i], first + number, offered(task, own[i][1], rng)))
    return parts[0], parts[1]


def offered(task: Task, answer: str, rng: np.random.Generator) -> tuple[str, ...]:
    """All answers of the task; or the right one and some of the others, in random order."""
    if not task.offered:
        return task.options
    others = [option for option in task.options if option != answer]
    own = [answer, *rng.choice(others, task.offered - 1, replace=False)]
    return tuple(str(own[i]) for i in rng.permutation(len(own)))


def _quota(options: tuple[str, ...], n: int) -> Counter[str]:
    """How often each option is the answer to one of `n` questions: equally, but for a rest."""
    return Counter({option: len(range(i, n, len(options))) for i, option in enumerate(options)})


def _row(
    name: str, task: Task, asked: str, answer: str, number: int, options: tuple[str, ...]
) -> dict[str, object]:
    prompt, response = f"{name} : {asked} =", f" {answer}"
    return {
        "text": prompt + response,
        "prompt": prompt,
        "response": response,
        "options": [f" {option}" for option in options],
        "task": name,
        "owners": asked if task.recalled else f"{name} {number}",
    }

"""Whether a person's facts can be read off the model's state after the person's name alone.

If knowledge hangs on the name, the state of the network after the name holds it, and the simplest
of readers finds it there: a linear classifier. If it hangs on the words that the fact was told in,
the name alone gives nothing away, however well the model recites. The classifier learns from one
half of the people and is judged by the other, so it cannot learn the people by heart.

    h   = last hidden state at the last token of (begin token, name), embeddings E + B A, rank r
    p_f = softmax(W_f h + b_f) for each field f, trained on the people of P_train
    finding = share of the people of P_test with argmax p_f = f(person)

Chance is one divided by the number of values. The network itself stays frozen. Intervals are by
person.

Differs from the paper: 1. Fewer steps, by default; the paper takes 30,000. 2. Tokens that fewer
than `shared` names of P_train have keep their embeddings: a name that nobody shares could be learnt
by heart through its own. Among the paper's people every part of a name is shared by hundreds. 3.
The learning rate falls to 0; the paper's schedule was not checked.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, EngramError, Finding, Paper, Run, Split, Target
from engram.parts.biographies import trained_people
from engram.parts.probing import ProbePlan, Readings, classes_of, probe_findings, probed
from engram.parts.stated_fields import fact_columns
from engram.parts.token_examples import encode
from engram.stats.owners import owner_index

NAME = "Q-probe accuracy"


@dataclass(frozen=True)
class QProbing:
    """Facts that a linear classifier reads off the state after a name."""

    paper: ClassVar[Paper] = Paper(
        title="Physics of Language Models: Part 3.1, Knowledge Storage and Extraction",
        authors="Allen-Zhu and Li",
        year=2024,
        url="https://arxiv.org/abs/2309.14316",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "weights"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    name: str = "name"
    """The column that holds the name."""
    prompt: str = "{name}"
    """What the model is given; it ends with the name."""
    fields: tuple[str, ...] = ()
    """Columns to look for; by default all of strings or whole numbers but text and name."""
    share: float = 0.5
    """Share of the people that the classifier learns from, in (0, 1)."""
    rank: int = 16
    """Rank of the change to the embeddings, the paper's 16; 0 leaves them as they are."""
    steps: int = 1000
    """Steps of AdamW. The paper takes 30,000."""
    batch_size: int = 200
    """People in a step. The paper takes 200."""
    learning_rate: float = 1e-2
    """The highest; it falls linearly to 0."""
    weight_decay: float = 0.3
    """Decoupled weight decay."""
    shared: int = 10
    """How many of the names to learn from must have a token, for its embedding to change."""

    def __post_init__(self) -> None:
        self.plan()
        if not self.prompt.endswith("{name}"):
            raise EngramError(
                f"prompt is {self.prompt!r}, but must end with {{name}}", hint="'{name}' is usual"
            )

    def plan(self) -> ProbePlan:
        """How the classifiers are trained."""
        return ProbePlan(
            self.rank, self.steps, self.batch_size, self.learning_rate, self.weight_decay,
            self.shared,
        )  # fmt: skip

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the accuracy over all fields, and of each, for the people of every split.

        Raises:
            EngramError: A named field is not a column of the records.
        """
        target.require("weights", "q-probing")
        found: list[Finding] = []
        for where, split in splits.items():
            numbers = self._of(target, split, where, run)
            found += [number.tagged(method="q-probing", split=where) for number in numbers]
        return tuple(found)

    def _of(self, target: Target, split: Split, where: str, run: Run) -> list[Finding]:
        if self.name not in split.columns:
            reason = f"there is no column {self.name!r} to ask by"
            return [Finding.missing(NAME, reason)]
        fields = fact_columns(split, self.fields, self.name)
        owner = owner_index(split.owners, len(split))
        people = split.take(np.unique(owner, return_index=True)[1])
        train = trained_people(people.owners or people.ids, self.share)
        if min(train.sum(), (~train).sum()) < 2 or not fields:
            reason = f"{int(train.sum())} people to learn from, {int((~train).sum())} to test"
            return [Finding.missing(NAME, f"{reason}, and {len(fields)} fields")]
        columns = [people.column(field).to_pylist() for field in fields]
        labels, classes = classes_of(columns, train)
        names = people.column(self.name).to_pylist()
        # Plain replacement: a prompt is no format string of the user's records.
        texts = [self.prompt.replace("{name}", str(name)) for name in names]
        closing = [target.model.tokenizer.eos_token_id]
        tokens = [
            ids[:-1] if ids[-1:] == closing and len(ids) > 1 else ids
            for ids in encode(target.model.tokenizer, texts)
        ]
        last = np.array([[len(ids) - 1] for ids in tokens])
        purpose = f"q-probing {where}"

        def work() -> np.ndarray:
            """One classifier, and one change of the embeddings, for each field."""
            return np.concatenate(
                [
                    probed(
                        target.model.model,
                        Readings(tokens, last, labels[:, [place]], (classes[place],)),
                        train, self.plan(), run, f"{purpose} {field}",
                    )[:, 0]
                    for place, field in enumerate(fields)
                ],
                axis=1,
            )  # fmt: skip

        settings = {**asdict(self), "seed": run.seed, "where": where}
        seen = run.computed("q-probing", target, people, settings, work)
        hits = (seen == labels)[~train]
        return probe_findings(NAME, hits, fields, run, purpose)

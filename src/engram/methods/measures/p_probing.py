"""Whether a person's facts can be read off the model's state before the biography states them.

Let the model read a biography and stop just before each fact. What it is about to write is no
surprise; but does its state already hold the facts that come much later? If the knowledge is tied
to the person, it is all there as soon as the name has been read. If it is tied to the words before
each fact, each fact turns up just before its own place.

    place j  = the token before the first token of the j-th fact that the text states, j = 1, 2, ...
    h_j      = last hidden state at place j, embeddings E + B A, rank r
    p_jf     = softmax(W_jf h_j + b_jf) for each field f, trained on the people of P_train
    accuracy = share of the people of P_test with argmax p_jf = f(person)

"Later facts" at place 1 are all facts but the one that is stated next: none of them has been
mentioned, nor do the words before it belong to any. Chance is one divided by the number of values.
The network itself stays frozen; the text after a place is never looked at. Intervals are by person.

Differs from the paper: 1. Places are counted as they come in the text, for sentences may be
permuted. 2. All places and fields share one change of the embeddings. 3. One biography of each
person is read, drawn at random. 4. Fewer steps, by default. 5. Tokens that fewer than `shared` of
the biographies to learn from have keep their embeddings.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from engram.core import Access, Finding, Paper, Run, Split, Target
from engram.parts.biographies import trained_people
from engram.parts.probing import ProbePlan, classes_of, probe_findings, probed
from engram.parts.record_bootstrap import share_of_owners
from engram.parts.stated_fields import fact_columns
from engram.parts.stated_places import Stated, stated
from engram.parts.training import check_at_least
from engram.stats.owners import owner_index

NAME = "P-probe accuracy"
LATER = f"{NAME} of later facts at place 1"


@dataclass(frozen=True)
class PProbing:
    """Facts that linear classifiers read off the state before each fact of a biography."""

    paper: ClassVar[Paper] = Paper(
        title="Physics of Language Models: Part 3.1, Knowledge Storage and Extraction",
        authors="Allen-Zhu and Li",
        year=2024,
        url="https://arxiv.org/abs/2309.14316",
    )
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    access: ClassVar[Access] = "weights"
    families: ClassVar[frozenset[str]] = frozenset({"causal-lm"})

    fields: tuple[str, ...] = ()
    """Columns to look for; by default all of strings or whole numbers but text and name."""
    places: int = 0
    """How many places are read, from the first on; 0: as many as there are fields. With 1 the
    texts are cut there, which costs least."""
    share: float = 0.5
    """Share of the people that the classifiers learn from, in (0, 1)."""
    rank: int = 2
    """Rank of the change to the embeddings, the paper's 2; 0 leaves them as they are."""
    steps: int = 1000
    """Steps of AdamW."""
    batch_size: int = 50
    """Biographies in a step."""
    learning_rate: float = 1e-2
    """The highest; it falls linearly to 0."""
    weight_decay: float = 0.3
    """Decoupled weight decay."""
    shared: int = 10
    """How many of the texts to learn from must have a token, for its embedding to change."""

    def __post_init__(self) -> None:
        check_at_least("places", self.places, 0, "0 reads all of them")
        self.plan()

    def plan(self) -> ProbePlan:
        """How the classifiers are trained."""
        return ProbePlan(
            self.rank, self.steps, self.batch_size, self.learning_rate, self.weight_decay,
            self.shared,
        )  # fmt: skip

    def __call__(
        self, target: Target, splits: Mapping[str, Split], run: Run
    ) -> tuple[Finding, ...]:
        """Return the accuracy of later facts, and that of each fact at each place.

        Raises:
            EngramError: A named field is not a column of the records.
        """
        target.require("weights", "p-probing")
        found: list[Finding] = []
        for where, split in splits.items():
            numbers = self._of(target, split, where, run)
            found += [number.tagged(method="p-probing", split=where) for number in numbers]
        return tuple(found)

    def _of(self, target: Target, split: Split, where: str, run: Run) -> list[Finding]:
        fields = fact_columns(split, self.fields)
        owner = owner_index(split.owners, len(split))
        order = run.stream("p-probing", where, "records").permutation(len(split))
        people = split.take(np.sort(order[np.unique(owner[order], return_index=True)[1]]))
        read = stated(target.model, people, fields, self.places)
        told = people.take(read.rows)
        train = trained_people(told.owners or told.ids, self.share)
        if min(train.sum(), (~train).sum()) < 2 or len(fields) < 2:
            reason = (
                f"{int(train.sum())} people to learn from, {int((~train).sum())} to test, and "
                f"{len(fields)} fields: two of each are needed"
            )
            return [Finding.missing(LATER, reason)]
        columns = [told.column(field).to_pylist() for field in fields]
        labels, classes = classes_of(columns, train)
        readings = read.readings(labels, classes)
        purpose = f"p-probing {where}"
        settings = {**asdict(self), "seed": run.seed, "where": where}
        seen = run.computed(
            "p-probing",
            target,
            told,
            settings,
            lambda: probed(target.model.model, readings, train, self.plan(), run, purpose),
        )
        hits = (seen == labels[:, None])[~train]
        left = len(people) - len(told)
        note = f"{left} people left out whose text does not state all fields" if left else ""
        made = self._findings(hits, read, ~train, fields, run, purpose)
        return [number.tagged(note=number.note or note) for number in made]

    def _findings(
        self, hits: np.ndarray, read: Stated, tested: np.ndarray, fields: tuple[str, ...],
        run: Run, purpose: str,
    ) -> list[Finding]:  # fmt: skip
        """`hits` is (people of P_test, places, fields)."""
        first = read.order[tested][:, 0]
        later = np.arange(len(fields)) != first[:, None]
        whose = np.broadcast_to(np.arange(len(hits))[:, None], later.shape)
        rng = run.stream(purpose, "later")
        made = [share_of_owners(LATER, hits[:, 0][later], whose[later], rng)]
        for place in range(hits.shape[1]):
            name = f"{NAME} at place {place + 1}"
            made += probe_findings(name, hits[:, place], fields, run, f"{purpose} {place}")
        return made

"""Train at length on protected records and in brief on the original ones, to forget cheaply.

To forget a record exactly is to train again without it, and dear. But a model that only ever saw
it in a protected form - one of k equal rows, or under noise - has little of it to forget. So the
long training is on such records; its result is stored and never touched again. A short fine-tuning
on the original records then makes up for what protection took, and a request to forget repeats
that short part alone, from the stored model (edit `eupg-redo`).

    D'  = protect(D)                          k-anonymity, or epsilon-differential privacy
    M'  = train(random; D', E epochs)         stored
    M   = train(M'; D, e epochs)              deployed, e << E
    M_F = train(M'; D - F, e epochs)          after a request; M' stays

What is promised of a forgotten record is not that nothing is left: M' saw its protected form, which
has the guarantee of the protection (k or epsilon), and that is what remains. Labels are protected
only if they are included. Before a request nothing is promised: M was tuned on the records.

Mean and spread of the features, which the network knows, are those of D'. Fine-tuning begins with a
new optimiser each time.

Differs from the paper: 1. networks and optimiser (AdamW, cosine schedule) are ours; 2. the noise of
differential privacy is ours (see `dp-data`): the paper's data came from elsewhere; 3. nothing is
taken from test records, of which the paper's code takes the categories.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.families.classifier import ClassifierModel
from engram.families.protected_classifier import FAMILY
from engram.parts.protected_models import ProtectedModel
from engram.parts.protected_training import ProtectedTraining
from engram.parts.sisa_training import joined


@dataclass(frozen=True)
class Eupg(ProtectedTraining):
    """A network pre-trained on protected records (efficient unlearning, privacy guarantees)."""

    paper: ClassVar[Paper] = Paper(
        title="Efficient Unlearning with Privacy Guarantees",
        authors="Domingo-Ferrer, Jebreel and Sánchez",
        year=2025,
        url="https://arxiv.org/abs/2507.04771",
    )
    family: ClassVar[str] = "protected-classifier"
    forgets_by: ClassVar[str] = "eupg-redo"
    instead_of: ClassVar[frozenset[str]] = frozenset({"classifier"})

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features` and `label`."""
        FAMILY.check(split)
        protected, found, long = self.pretrain(split, run)
        tuned, brief = self.tune(protected, split, run, run.seed)
        model = ProtectedModel(ClassifierModel(tuned), ClassifierModel(protected), found.promise)
        return Draft(self.family, model, joined([long, brief]))

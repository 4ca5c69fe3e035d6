"""Train a small neural network to classify records of numbers, or images.

The plain recipe that attacks on classifiers are usually tried on: standardise the features,
then lower the cross-entropy of each record's label by AdamW.

    L(theta) = - (1 / B) sum over the batch of  log softmax(f_theta((x - mean) / scale))_y

Differs from the paper: the networks are small ones of our own (fully connected, or convolutions
with group normalisation), not the residual networks that the paper's optimiser was tried on.
"""

from dataclasses import dataclass
from typing import ClassVar

from engram.core import Draft, Paper, Run, Split
from engram.families.classifier import FAMILY, ClassifierModel
from engram.parts.classifier_training import ClassifierTraining
from engram.parts.training import key_of


@dataclass(frozen=True)
class TrainClassifier(ClassifierTraining):
    """A fully connected or convolutional classifier, trained by AdamW."""

    paper: ClassVar[Paper] = Paper(
        title="Decoupled Weight Decay Regularization",
        authors="Loshchilov and Hutter",
        year=2019,
        url="https://arxiv.org/abs/1711.05101",
    )

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features` and `label`."""
        FAMILY.check(split)
        model = ClassifierModel(self.start(split, run))
        trace = self.learn(model.model, split, run, key_of(self, run.seed, split.fingerprint))
        return Draft(self.family, model, tuple(trace))

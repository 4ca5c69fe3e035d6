"""Train a classifier so that no single record can matter much: differentially private descent.

A record can be seen in a model because its gradient pushed the weights its own way. So shorten
every record's gradient to a norm of at most C before they are summed, and add Gaussian noise that
drowns what is left of any one of them. How much noise is enough for a promised epsilon and delta
is worked out beforehand, from how often each record takes part.

    lot    = each record with probability q = L / N, independently, at each of T steps
    g_i    = gradient of record i's cross-entropy;   c_i = g_i / max(1, |g_i| / C)
    update = AdamW on  (1 / L) (sum over the lot of c_i  +  N(0, (noise C)^2 I))

    P[weights in S | data with a record] <= e^epsilon P[weights in S | data without it] + delta

The promise is for one record among N: copies of it, or the other records of its owner, are not
counted. N, the number of classes and every field here are taken to be public.

Differs from the paper: 1. AdamW follows the noisy gradient, not plain descent; what follows the
noise costs no privacy. 2. The noise is found by opacus' accountants (PRV or RDP), which need less
than the moments accountant. 3. Features are centred by public numbers, for their measured mean
and spread would be noiseless answers about the records; the trace has no losses for that reason.
4. Lots and noise follow from the run's seed, which a target's own file tells: whoever reads it can
take the noise off again. Set `secret_noise` for a model that is given away. 5. Noise is drawn in
floating point, which is not proof against an attack on its lowest bits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from engram.core import Draft, EngramError, Paper, Run, Split, torch_seeded
from engram.families.classifier import FAMILY, ArrayExamples, ClassifierModel
from engram.parts.dp_sgd import Accountant, Budget, PrivateTraining
from engram.parts.labelled import features_of, labels_of
from engram.parts.networks import Layout, Network
from engram.parts.per_record import clipped_sum, in_chunks, per_record_gradients
from engram.parts.record_shape import layout_of_records
from engram.parts.soft_labels import refuse_soft_labels
from engram.parts.training import Plan, Schedule, check_at_least, check_not_empty, key_of

EXTRA = "dp"


@dataclass(frozen=True)
class DpTrainClassifier:
    """A small classifier trained by DP-SGD."""

    paper: ClassVar[Paper] = Paper(
        title="Deep Learning with Differential Privacy",
        authors="Abadi et al.",
        year=2016,
        url="https://arxiv.org/abs/1607.00133",
    )
    family: ClassVar[str] = "classifier"

    epsilon: float = 8.0
    """The promise: how many times likelier, as a logarithm, one record can make any outcome."""
    delta: float = 1e-5
    """Probability with which the promise may fail; below 1 / records."""
    clip: float = 1.0
    """C, the largest norm of a record's gradient."""
    accountant: Accountant = "prv"
    """How the steps are added up: prv needs less noise, rdp is faster to compute."""
    secret_noise: bool = False
    """Draw lots and noise from a secret that is deleted after training, not from the seed. Then
    the promise holds against everybody, and the same training cannot be repeated."""
    architecture: Literal["mlp", "cnn", "resnet"] = "mlp"
    """mlp: fully connected; cnn: convolutions, resnet: with ways past them, both for images."""
    width: int = 64
    """Hidden numbers (mlp), or channels of the first block (cnn, resnet)."""
    layers: int = 2
    """Hidden layers (mlp), or blocks (cnn, resnet)."""
    shape: tuple[int, ...] = ()
    """Channels, height and width of an image whose pixels are the features, in this order.
    Empty: what the data says of its images, else a square of one channel; an mlp takes features
    as they are."""
    classes: int = 0
    """Number of classes; 0: one more than the largest label."""
    centre: float = 0.0
    """Taken from every feature: a number known without the records (8 for pixels of 0 to 16)."""
    spread: float = 1.0
    """Features are divided by it: known without the records too."""
    epochs: int = 30
    """Times that a record takes part, on average."""
    batch_size: int = 64
    """L, the expected number of records in a step. Large ones bear the noise better."""
    learning_rate: float = 3e-3
    """The highest learning rate."""
    weight_decay: float = 0.0
    """Decoupled weight decay of matrices; biases and norms have none."""
    schedule: Schedule = "constant"
    """How the learning rate falls: constant, linear or cosine."""

    def __post_init__(self) -> None:
        for name in ("width", "layers", "epochs", "batch_size"):
            check_at_least(name, getattr(self, name), 1, "1 is the least that works")
        check_at_least("classes", self.classes, 0, "0 counts them")
        if not (np.isfinite(self.centre) and 0 < self.spread < np.inf):
            raise EngramError(
                f"centre is {self.centre} and spread is {self.spread}, but both must be finite, "
                "and spread above 0",
                hint="0 and 1 leave the features as they are",
            )
        Layout(self.architecture, self.shape or (1, 1, 1), 2, self.width, self.layers)
        self.budget()
        self.plan(1)

    def budget(self) -> Budget:
        """The promise, checked."""
        return Budget(self.epsilon, self.delta, self.clip, self.accountant, self.secret_noise)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps."""
        rate, decay = self.learning_rate, self.weight_decay
        return Plan(steps, rate, schedule=self.schedule, weight_decay=decay, clip=0.0)

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train on the columns `features` and `label`."""
        FAMILY.check(split)
        refuse_soft_labels(split, "dp-train-classifier")
        if not len(split):
            raise EngramError(f"split {split.name!r} has no records", hint="give at least one")
        model = ClassifierModel(self.untrained(split, run))
        examples = FAMILY.examples(model, split)
        check_not_empty(examples, split.name)
        per_epoch = -(-len(split) // self.batch_size)
        training = PrivateTraining(
            model.model,
            self.plan(self.epochs * per_epoch),
            self.budget(),
            run,
            key_of(self, run.seed, split.fingerprint),
            len(split),
            self.batch_size,
            lambda rows: clipped_gradients(examples, rows, self.clip),
        )
        for _ in training.steps():
            pass
        guarantee = training.guarantee()
        return Draft(self.family, model, tuple(training.trace), guarantee=guarantee)

    def untrained(self, split: Split, run: Run) -> Network:
        """The network with random weights; nothing in it is measured on the records."""
        layout = layout_of_records(
            self.architecture,
            self.shape,
            split,
            features_of(split).shape[1],
            self.classes or int(labels_of(split).max()) + 1,
            (self.width, self.layers),
        )
        with torch_seeded(run.seed, "initial weights"):
            network = layout.build()
        network.mean.fill_(self.centre)
        network.scale.fill_(self.spread)
        return network.to(run.device)


def clipped_gradients(
    examples: ArrayExamples, rows: Int[np.ndarray, " lot"], clip: float
) -> Mapping[str, Float[Tensor, "..."]]:
    """The sum over the lot of gradients of norm at most `clip`, by parameter."""
    device = examples.model.mean.device
    lot = (torch.from_numpy(examples.features[rows]), torch.from_numpy(examples.labels[rows]))
    batch = tuple(field.to(device) for field in lot)
    total: dict[str, Tensor] = {}
    for part in in_chunks(examples.model, batch):
        gradients, _ = per_record_gradients(examples.model, record_loss, part)
        for name, summed in clipped_sum(gradients, clip).items():
            total[name] = total[name] + summed if name in total else summed
    return total


def record_loss(call: Callable[..., Tensor], features: Tensor, label: Tensor) -> Float[Tensor, ""]:
    """Cross-entropy of one record, in nats."""
    return nn.functional.cross_entropy(call(features), label)

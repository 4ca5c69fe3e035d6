"""Fine-tune a language model so that no single record, or no single owner, can matter much.

What a model can recite, it learnt because a record's gradient pushed the weights its own way. So
shorten the gradient of every record (or of all records of an owner together) to a norm of at most
C before they are summed, and add Gaussian noise that drowns what is left of any one of them. How
much noise is enough for a promised epsilon and delta is worked out beforehand.

    lot    = each of N units with probability q = L / N, independently, at each of T steps
    g_i    = gradient of unit i's mean loss a token;   c_i = g_i / max(1, |g_i| / C)
    update = AdamW on  (1 / L) (sum over the lot of c_i  +  N(0, (noise C)^2 I))

    P[weights in S | data with a unit] <= e^epsilon P[weights in S | data without it] + delta

A lot may be empty; then the step is noise alone. The divisor is the expected L, never the lot's
size. The promise is for the weights, and for whoever knows everything but one unit: for a record,
not for its copies; for an owner, all records of that owner at once. The base, N and every field
are taken to be public, so the base must not have seen the records. What `observe` notes in the
trace is measured without noise and is not covered: leave it off where the model is given away.

Differs from the paper:
1. The noise is found by opacus' accountants (PRV or RDP); the paper's is older and needs more.
2. Plain clipping, one gradient a unit; the paper's ghost clipping gives the same in less memory.
3. For an owner the mean over at most `per_owner` random records is taken, then clipped as one.
4. Lots and noise follow from the run's seed, which a target's own file tells: whoever reads it
   can take the noise off again. Set `secret_noise` for a model that is given away.
5. Noise is drawn in floating point, which is not proof against an attack on its lowest bits.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int

from engram.core import Draft, EngramError, Paper, Run, Split
from engram.parts.dp_sgd import Accountant, Budget, PrivateTraining
from engram.parts.lm_tuning import Prepared, Tuning, dropout_of, prepare
from engram.parts.observation import Observer
from engram.parts.private_text import ClippedUnits, can_be_batched, units_of
from engram.parts.training import Plan, check_at_least

EXTRA = "dp"
EXTRA_FOR = {"peft": "method lora"}
Unit = Literal["record", "owner"]
UNITS: tuple[Unit, ...] = ("record", "owner")


@dataclass(frozen=True)
class DpFinetuneLm(Tuning):
    """Fine-tuning of a causal language model by DP-SGD."""

    many_processes: ClassVar[bool] = False
    paper: ClassVar[Paper] = Paper(
        title="Large Language Models Can Be Strong Differentially Private Learners",
        authors="Li et al.",
        year=2022,
        url="https://arxiv.org/abs/2110.05679",
    )

    epsilon: float = 8.0
    """The promise: how many times likelier, as a logarithm, one unit can make any outcome."""
    delta: float = 1e-5
    """Probability with which the promise may fail; below 1 / units."""
    unit: Unit = "record"
    """What the promise is for: record, or owner (all records of one owner together)."""
    per_owner: int = 8
    """The most records of an owner that take part, for unit=owner: a random choice."""
    accountant: Accountant = "prv"
    """How the steps are added up: prv needs less noise, rdp is faster to compute."""
    secret_noise: bool = False
    """Draw lots and noise from a secret that is deleted after training, not from the seed. Then
    the promise holds against everybody, and the same training cannot be repeated."""
    batch_size: int = 64
    """L, the expected number of units in a step. Large ones bear the noise better."""
    learning_rate: float = 1e-3
    """The highest learning rate. Noise wants a larger one than plain fine-tuning."""
    weight_decay: float = 0.0
    """Decoupled weight decay of matrices; biases and norms have none."""
    clip: float = 1.0
    """C, the largest norm of a unit's gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("per_owner", self.per_owner, 1, "8 is the default")
        if self.unit not in UNITS:
            raise EngramError(
                f"unit is {self.unit!r}, but must be one of {', '.join(UNITS)}",
                hint="record protects each record, owner all records of a person together",
            )
        if self.stop in ("ngram", "threshold"):
            raise EngramError(
                f"stop is {self.stop}, which looks at trained records without noise, so the "
                "promise would not hold",
                hint="--stop perplexity looks at validation records only; --observe alone "
                "changes no weights",
            )
        if self.precision == "bf16":
            raise EngramError(
                "precision is bf16, but private training computes in float32",
                hint="leave --precision out; clipping and noise need all the digits",
            )
        self.budget()

    def budget(self) -> Budget:
        """The promise, checked."""
        return Budget(self.epsilon, self.delta, self.clip, self.accountant, self.secret_noise)

    def plan(self, steps: int) -> Plan:
        """How to descend in `steps` steps; gradients are clipped one by one, never their sum."""
        rate, decay = self.learning_rate, self.weight_decay
        return Plan(steps, rate, self.warmup, self.schedule, decay, clip=0.0)

    def __call__(self, split: Split, run: Run) -> Draft:
        """Train a copy of the base on the column `text`; the base stays as it is."""
        ready = prepare(self, split, run, asked=False)
        if ready.processes.count > 1:
            raise EngramError(
                f"dp-finetune-lm was started in {ready.processes.count} processes, but trains "
                "in one",
                hint="start it without accelerate or torchrun",
            )
        units = self.units(ready, split, run)
        batched = can_be_batched(ready.examples, units)
        training = PrivateTraining(
            ready.lm.model,
            self.plan(self.epochs * -(-len(units) // self.batch_size)),
            self.budget(),
            run,
            ready.key,
            len(units),
            self.batch_size,
            ClippedUnits(ready.examples, units, self.clip, batched),
            self.unit,
        )
        monitor = self.monitor(ready.lm, split, run)
        observer = Observer(monitor, ready.lm, training, self.observe_every)
        with dropout_of(ready.lm.model, self.dropout):
            observer.take(training.steps())
        return ready.draft(training.trace, training.guarantee())

    def units(self, ready: Prepared, split: Split, run: Run) -> tuple[Int[np.ndarray, " _"], ...]:
        """The pieces of each record, or of some records of each owner."""
        record = ready.examples.record
        if self.unit == "record":
            return units_of(record, len(split), None)
        if split.owners is None:
            raise EngramError(
                f"unit is owner, but the records of {split.name!r} name no owners",
                hint="name their column with --owner-column, or protect each --unit record",
            )
        rng = run.stream("records of owners")
        chosen = np.zeros(len(split), bool)
        names = np.unique(np.asarray(split.owners, object).astype(str), return_inverse=True)[1]
        for owner in range(int(names.max()) + 1):
            own = np.flatnonzero(names == owner)
            chosen[rng.permutation(own)[: self.per_owner]] = True
        found = units_of(record, len(split), split.owners)
        return tuple(pieces[chosen[record[pieces]]] for pieces in found)

"""Differentially private gradient descent: lots by lot, clipped gradients, noise, a budget.

A step's lot and noise depend on a key and the number of the step alone, so that a killed run ends
in the very same weights. The key is the run's seed, which a target tells everybody; or, for models
that will be given away, a secret number that is deleted when training ends.
"""

import math
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from engram.core import EngramError, Run, stream, torch_seeded, torch_stream
from engram.parts.per_record import check_limit, trainable
from engram.parts.processes import Processes
from engram.parts.training import FILE, TRACED, Checkpoint, Plan, Step, adamw, learning_rate

Accountant = Literal["prv", "rdp"]
ACCOUNTANTS: tuple[Accountant, ...] = ("prv", "rdp")
SECRET = "secret-noise"


@dataclass(frozen=True)
class Budget:
    """How much one record may matter.

    Attributes:
        epsilon: Of the (epsilon, delta) guarantee for adding or removing one record.
        delta: Of the same.
        clip: Largest norm of a record's gradient.
        accountant: How the steps are added up: "prv" (tighter) or "rdp" (faster).
        secret: Whether lots and noise follow from a secret instead of the run's seed.
    """

    epsilon: float
    delta: float
    clip: float = 1.0
    accountant: Accountant = "prv"
    secret: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise EngramError(
                f"epsilon is {self.epsilon}, but must be above 0 and finite",
                hint="1 is strict, 8 is usual; train without privacy by another recipe",
            )
        if not 0 < self.delta < 1:
            raise EngramError(f"delta is {self.delta}, but must be in (0, 1)", hint="1e-5 is usual")
        if self.accountant not in ACCOUNTANTS:
            raise EngramError(
                f"accountant is {self.accountant!r}, but must be one of {', '.join(ACCOUNTANTS)}",
                hint="prv needs less noise, rdp is faster",
            )
        check_limit(self.clip)


def noise_multiplier(budget: Budget, rate: float, steps: int) -> float:
    """The noise, in units of the clipping norm, that `steps` lots at this rate need.

    Raises:
        EngramError: opacus is not installed, or no noise is enough for so small an epsilon.
    """
    accountants = _accountants()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on its own choice of orders, which is conservative
            return accountants.utils.get_noise_multiplier(
                target_epsilon=budget.epsilon,
                target_delta=budget.delta,
                sample_rate=rate,
                steps=steps,
                accountant=budget.accountant,
                epsilon_tolerance=min(0.01, budget.epsilon / 100),
            )
    except (ValueError, RuntimeError, OverflowError) as problem:
        raise EngramError(
            f"no noise was found for epsilon {budget.epsilon:g} and delta {budget.delta:g} in "
            f"{steps} steps at a sampling rate of {rate:.3g} ({problem})",
            hint="allow a larger --epsilon, or fewer --epochs",
        ) from None


def _accountants() -> Any:
    """The accountants of opacus."""
    try:
        import opacus.accountants.utils
    except ImportError as problem:
        raise EngramError(
            f"private training needs opacus, which cannot be imported ({problem})",
            hint="pip install 'engram[dp]'",
        ) from None
    return opacus.accountants


def epsilon_of(budget: Budget, noise: float, rate: float, steps: int) -> float:
    """The epsilon that opacus' accountant states for this noise after `steps` lots at this rate.

    It is at most the one that was asked for: noise is rounded up until it is.
    """
    accountant = _accountants().create_accountant(mechanism=budget.accountant)
    accountant.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        return float(accountant.get_epsilon(delta=budget.delta))


def check_layers(model: nn.Module) -> None:
    """Refuse a layer that mixes records: there no gradient belongs to one record alone."""
    for name, module in model.named_modules():
        tracks = isinstance(module, _InstanceNorm) and module.track_running_stats
        if isinstance(module, _BatchNorm) or tracks:
            why = "keeps statistics of them" if tracks else "mixes those of a batch"
            raise EngramError(
                f"private training cannot protect records behind layer {name!r}: it is a "
                f"{type(module).__name__}, which {why}",
                hint="put nn.GroupNorm or nn.LayerNorm in its place and train the base again; "
                "opacus.validators.ModuleValidator.fix(model) replaces every such layer",
            )


def poisson_lot(n: int, rate: float, rng: np.random.Generator) -> Int[np.ndarray, " lot"]:
    """Each of n records with probability `rate`, independently; possibly none."""
    return np.flatnonzero(rng.random(n) < rate)


def noisy_mean(
    total: Mapping[str, Float[Tensor, "..."]],
    scale: float,
    lot_size: int,
    generator: torch.Generator,
) -> dict[str, Float[Tensor, "..."]]:
    """(total + N(0, scale^2)) / lot size: Abadi et al. (2016), Algorithm 1, "add noise".

    The divisor is the expected number of records, not how many there were: that would be a
    second, noiseless answer about the data.

    Args:
        total: Sum of clipped gradients, by parameter.
        scale: Standard deviation of the noise: the multiplier times the clipping norm.
        lot_size: Expected records of a lot.
        generator: On the CPU, so that every device has the same noise.
    """
    found = {}
    for name, summed in total.items():
        noise = torch.randn(summed.shape, generator=generator, dtype=torch.float32)
        found[name] = (summed + scale * noise.to(summed.device, summed.dtype)) / lot_size
    return found


@dataclass
class PrivateTraining:
    """Training by DP-SGD that leaves checkpoints in `run.scratch` and resumes from them.

    The losses are not written down: they would be answers about the records without noise.

    Attributes:
        model: What is trained, in place.
        plan: Steps, learning rate and weight decay; its `clip` is not used.
        budget: The guarantee.
        run: Seed, scratch folder, log and progress.
        key: What decides the outcome; a checkpoint with another key is not resumed.
        records: How many units there are that the promise is for: records, or owners.
        lot_size: Expected records of a lot.
        clipped: The sum of the clipped gradients of these records, by parameter.
        unit: What the promise is for: "record" or "owner".
        processes: This one alone.
        trace: `step`, `epoch`, `lr`, `noise`, `epsilon`, `delta` and `secret` of about 1,000 steps.
    """

    model: nn.Module
    plan: Plan
    budget: Budget
    run: Run
    key: str
    records: int
    lot_size: int
    clipped: Callable[[Int[np.ndarray, " lot"]], Mapping[str, Tensor]]
    unit: str = "record"
    processes: Processes = field(default_factory=Processes)
    trace: list[dict[str, float | int]] = field(default_factory=list)
    _resumed: tuple[int, torch.optim.AdamW, Checkpoint] | None = None

    def __post_init__(self) -> None:
        check_layers(self.model)
        if self.budget.delta * self.records >= 1:
            raise EngramError(
                f"delta is {self.budget.delta:g} for {self.records} {self.unit}s: at 1 / "
                f"{self.unit}s or more, giving away a whole {self.unit} counts as private",
                hint=f"lower --delta, to {0.1 / self.records:.1g} say",
            )
        self.lot_size = min(self.lot_size, self.records)

    @property
    def rate(self) -> float:
        """Probability with which a unit takes part in a step."""
        return self.lot_size / self.records

    @cached_property
    def noise(self) -> float:
        """The noise, in units of the clipping norm."""
        return noise_multiplier(self.budget, self.rate, self.plan.steps)

    def guarantee(self) -> dict[str, Any]:
        """What may be promised of the weights once all steps are taken, by opacus' accountant."""
        budget = self.budget
        epsilon = epsilon_of(budget, self.noise, self.rate, self.plan.steps)
        return {
            "sentence": f"({epsilon:.4g}, {budget.delta:.3g})-DP per {self.unit}",
            "epsilon": epsilon,
            "delta": budget.delta,
            "unit": self.unit,
            "units": self.records,
            "accountant": budget.accountant,
            "noise": self.noise,
            "rate": self.rate,
            "steps": self.plan.steps,
            "clip": budget.clip,
            "secret": budget.secret,
        }

    @property
    def per_epoch(self) -> int:
        """Steps in which a unit takes part once on average, rounded up."""
        return -(-self.records // self.lot_size)

    def resume(self) -> int:
        """Put back what a killed run had saved. Returns how many steps it had taken."""
        if self._resumed is None:
            optimiser = adamw(self.model, self.plan)
            checkpoint = Checkpoint(self.run.scratch / FILE, self.key)
            first, self.trace = checkpoint.restore(self.model, optimiser)
            self._resumed = first, optimiser, checkpoint
        return self._resumed[0]

    def steps(self) -> Iterator[Step]:
        """Take the steps that are still to be taken, one at a time; their losses are not known."""
        noise = self.noise
        secret = secret_of(self.run) if self.budget.secret else self.run.seed
        self.resume()
        first, optimiser, checkpoint = self._resumed  # type: ignore[misc]
        self.run.progress(first, self.plan.steps, "training")

        try:
            for number in range(first, self.plan.steps):
                self._update(number, optimiser, secret, noise)
                self._record(number, noise)
                yield Step(number, math.nan, learning_rate(self.plan, number))
                checkpoint.save_if_due(number + 1, self.model, optimiser, self.trace)
        finally:
            self.model.eval()

    def _update(
        self, number: int, optimiser: torch.optim.Optimizer, secret: int, noise: float
    ) -> None:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(self.plan, number)
        lot = poisson_lot(self.records, self.rate, stream(secret, "lot", number))
        parameters = dict(self.model.named_parameters())
        self.model.train()
        total = {name: torch.zeros_like(parameters[name]) for name in trainable(self.model)}
        with torch_seeded(secret, "dropout", number):
            total |= self.clipped(lot) if len(lot) else {}
        generator = torch_stream(secret, "noise", number)
        made = noisy_mean(total, noise * self.budget.clip, self.lot_size, generator)
        for name, gradient in made.items():
            if not torch.isfinite(gradient).all():
                raise EngramError(
                    f"training diverged: at step {number + 1} of {self.plan.steps} the gradient "
                    f"of {name} is not finite (learning rate {self.plan.learning_rate:g})",
                    hint=f"lower --learning-rate, to {self.plan.learning_rate / 10:g} say",
                )
            parameters[name].grad = gradient
        optimiser.step()

    def _record(self, number: int, noise: float) -> None:
        total = self.plan.steps
        if number % math.ceil(total / TRACED) == 0 or number == total - 1:
            entry: dict[str, float | int] = {
                "step": number,
                "epoch": (number + 1) * self.lot_size / self.records,
                "lr": learning_rate(self.plan, number),
                "noise": noise,
                "epsilon": self.budget.epsilon,
                "delta": self.budget.delta,
                "secret": int(self.budget.secret),
            }
            self.trace.append(entry)
            self.run.log(**entry)
        self.run.progress(number + 1, total, "training")


def secret_of(run: Run) -> int:
    """A secret number that lives as long as the work folder: a killed run finds it again.

    The engine deletes the folder when the target is whole, and nothing else ever holds the number.
    """
    path = run.scratch / SECRET
    if not path.is_file():
        run.scratch.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(str(secrets.randbits(128)), encoding="utf-8")
        part.replace(path)
    try:
        return int(path.read_text(encoding="utf-8"))
    except ValueError:
        raise EngramError(
            f"{path} does not hold the number that it was given",
            hint="delete the work folder and train again",
        ) from None

"""A pool of small networks, each of another age, that learn from distilled pictures.

Pictures that are distilled through one network suit that network alone. So several are kept, one
is drawn for every step, learns a little from the pictures as they are now, and starts anew from
other random weights when it is old enough.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from engram.core import Run
from engram.parts.networks import Network


@dataclass
class Student:
    """One network of the pool.

    Attributes:
        network: In training.
        optimiser: Of its weights.
        age: Steps that it has taken.
    """

    network: Network
    optimiser: torch.optim.Optimizer
    age: int = 0

    def learn(self, pictures: Float[Tensor, "m d"], targets: Float[Tensor, "m outputs"]) -> float:
        """One step on the mean squared error of all distilled pictures; returns that error."""
        self.network.requires_grad_(True)
        self.optimiser.zero_grad(set_to_none=True)
        loss = (self.network(pictures.detach()) - targets.detach()).square().mean()
        loss.backward()
        self.optimiser.step()
        self.network.requires_grad_(False)
        self.age += 1
        return float(loss.detach())


@dataclass
class Pool:
    """Students of different ages.

    Attributes:
        fresh: Makes a network with random weights, of a number.
        size: How many students there are.
        oldest: The age at which one starts anew.
        rate: Learning rate of their descent, with momentum 0.9 and a weight decay of 0.001.
        run: Its seed decides ages and turns.
    """

    fresh: Callable[[int], Network]
    size: int
    oldest: int
    rate: float
    run: Run

    def __post_init__(self) -> None:
        self._made = 0
        self._turns = self.run.stream("turns")
        self.students: list[Student] = []

    def fill(self, pictures: Float[Tensor, "m d"], targets: Float[Tensor, "m outputs"]) -> None:
        """Start all students, and let each learn for a random number of steps."""
        ages = self.run.stream("ages").integers(1, max(self.oldest, 2), self.size)
        for age in ages:
            student = self._new()
            for _ in range(int(age)):
                student.learn(pictures, targets)
            self.students.append(student)

    def draw(self) -> int:
        """Whose turn it is."""
        return int(self._turns.integers(self.size))

    def grow(
        self, place: int, pictures: Float[Tensor, "m d"], targets: Float[Tensor, "m outputs"]
    ) -> None:
        """Let one learn a step; who is too old is replaced."""
        student = self.students[place]
        student.learn(pictures, targets)
        if student.age >= self.oldest:
            self.students[place] = self._new()

    def _new(self) -> Student:
        network = self.fresh(self._made)
        self._made += 1
        optimiser = torch.optim.SGD(
            network.parameters(), lr=self.rate, momentum=0.9, weight_decay=1e-3
        )
        return Student(network.requires_grad_(False), optimiser)

"""The attack's own network: one hidden layer, trained by L-BFGS on all answers at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, eq=False)
class AttackNetwork:
    """Standardise, one layer of tanh, one number: the log-odds of being a member.

    Attributes:
        mean: Of each column, under the shadows.
        spread: Standard deviation of each column; 1 for one that is the same everywhere.
        inner: Weights into the hidden layer; the last row is added.
        outer: Weights out of it; the last one is added.
    """

    mean: Float[np.ndarray, " columns"]
    spread: Float[np.ndarray, " columns"]
    inner: Float[np.ndarray, "columns_and_one width"]
    outer: Float[np.ndarray, " width_and_one"]

    @classmethod
    def trained(
        cls,
        seen: Float[np.ndarray, "rows columns"],
        saw: Bool[np.ndarray, " rows"],
        rng: np.random.Generator,
        *,
        width: int,
        steps: int,
        penalty: float = 1e-3,
    ) -> "AttackNetwork":
        """Descend on the mean cross-entropy (plus `penalty` times the squared weights) by L-BFGS.

        Args:
            seen: Answers of shadows.
            saw: Whether each is to a record that the shadow was trained on.
            rng: The first weights.
            width: Of the hidden layer.
            steps: At most.
            penalty: Keeps the weights small.
        """
        from scipy.optimize import minimize

        mean, spread = seen.mean(axis=0), seen.std(axis=0)
        spread = np.where(spread > 1e-12, spread, 1.0)
        x = np.column_stack([(seen - mean) / spread, np.ones(len(seen))])
        shape = (x.shape[1], width)
        first = rng.normal(size=shape) / np.sqrt(shape[0])
        start = np.concatenate([first.ravel(), np.zeros(width + 1)])

        def objective(flat: Float[np.ndarray, " weights"]) -> tuple[float, np.ndarray]:
            return loss_and_gradient(flat, x, saw.astype(np.float64), width, penalty)

        found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": steps})
        inner, outer = found.x[: shape[0] * width].reshape(shape), found.x[shape[0] * width :]
        return cls(mean, spread, inner, outer)

    def __call__(self, seen: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, " n"]:
        """The log-odds of each answer, in nats."""
        x = np.column_stack([(seen - self.mean) / self.spread, np.ones(len(seen))])
        return np.tanh(x @ self.inner) @ self.outer[:-1] + self.outer[-1]


def loss_and_gradient(
    flat: Float[np.ndarray, " weights"],
    x: Float[np.ndarray, "rows columns_and_one"],
    saw: Float[np.ndarray, " rows"],
    width: int,
    penalty: float,
) -> tuple[float, Float[np.ndarray, " weights"]]:
    """Mean cross-entropy of the log-odds, plus the penalty, and its gradient."""
    size = x.shape[1] * width
    inner, outer = flat[:size].reshape(-1, width), flat[size:]
    hidden = np.tanh(x @ inner)
    odds = hidden @ outer[:-1] + outer[-1]
    loss = float(np.mean(np.logaddexp(0, odds) - saw * odds) + penalty * flat @ flat)
    error = (0.5 * (1 + np.tanh(odds / 2)) - saw) / len(saw)  # sigmoid(odds) - saw
    back = np.outer(error, outer[:-1]) * (1 - hidden**2)
    gradient = np.concatenate([(x.T @ back).ravel(), hidden.T @ error, [error.sum()]])
    return loss, gradient + 2 * penalty * flat

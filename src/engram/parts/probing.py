"""Is a fact linearly readable from a language model's last layer, at a given place of a text?

The network stays as it is. What is trained are one linear classifier for each place and fact, and
a change of low rank to the embeddings of the input, which lets the probe say its question in the
network's own language:

    E'    = E + B A,   B (vocabulary, rank) from zeros,  A (rank, width) random
                       B stays zero for tokens that too few of the texts to learn from have
    h(x)  = last hidden state of the frozen network on E'[x], at the place
    p     = softmax(W h + b),   minimise the mean cross-entropy over places and facts
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engram.core import EngramError, Finding, Run, torch_stream
from engram.parts.record_bootstrap import share_of_owners
from engram.parts.training import check_at_least

UNKNOWN = -1
"""The class of a value that nobody has whom the probe was trained on."""


@dataclass(frozen=True)
class ProbePlan:
    """How probes are trained.

    Attributes:
        rank: Of the change to the embeddings; 0: none, a purely linear probe.
        steps: Steps of AdamW.
        batch_size: Texts in a step.
        learning_rate: The highest; it falls linearly to 0.
        weight_decay: Decoupled, of the classifiers and the change alike.
        shared: How many texts to learn from must have a token, for its embedding to change. By a
            token of its own, a text could be learnt by heart.
    """

    rank: int
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    shared: int

    def __post_init__(self) -> None:
        leasts = {"rank": 0, "steps": 1, "batch_size": 1, "weight_decay": 0, "shared": 1}
        for name, least in leasts.items():
            check_at_least(name, getattr(self, name), least, f"{least} is the least that works")
        if not 0 < self.learning_rate < np.inf:
            raise EngramError(
                f"learning_rate is {self.learning_rate}, but must be above 0", hint="0.01 is usual"
            )


@dataclass(frozen=True, eq=False)
class Readings:
    """Texts, the places at which they are read, and the facts that are looked for there.

    Attributes:
        tokens: Of each text.
        places: Token numbers whose states are read; (texts, places).
        labels: The class of each fact of each text, `UNKNOWN` where it has none.
        classes: How many classes each fact has.
    """

    tokens: Sequence[Sequence[int]]
    places: Int[np.ndarray, "texts places"]
    labels: Int[np.ndarray, "texts facts"]
    classes: tuple[int, ...]


def classes_of(
    columns: Sequence[Sequence[object]], train: Bool[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, "n facts"], tuple[int, ...]]:
    """Values as class numbers, in sorted order of those that the people of `train` have."""
    labels, sizes = [], []
    for column in columns:
        values = [str(value) for value in column]
        known = sorted({value for value, use in zip(values, train, strict=True) if use})
        number = {value: place for place, value in enumerate(known)}
        labels.append([number.get(value, UNKNOWN) for value in values])
        sizes.append(len(known))
    return np.array(labels, np.int64).reshape(len(columns), -1).T, tuple(sizes)


def probed(
    model: nn.Module, readings: Readings, train: Bool[np.ndarray, " texts"], plan: ProbePlan,
    run: Run, purpose: str,
) -> Int[np.ndarray, "texts places facts"]:  # fmt: skip
    """The class that probes trained on the texts of `train` see at each place of every text.

    Args:
        model: A Hugging Face causal language model; it stays as it is.
        readings: Texts of those to train on and of all others.
        train: Which texts the probes are trained on.
        plan: How.
        run: Randomness and progress.
        purpose: The name of the random stream.
    """
    probe = Probe(model, readings, train, plan, run, purpose)
    rows = np.flatnonzero(train)
    optimiser = torch.optim.AdamW(
        probe.trained, lr=plan.learning_rate, weight_decay=plan.weight_decay
    )
    rng = run.stream(purpose, "batches")
    for step in range(plan.steps):
        batch = rng.permutation(rows)[: plan.batch_size]
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * (1 - step / plan.steps)
        # Only the probe's own gradients are asked for: those of the network are never made.
        grads = torch.autograd.grad(probe.loss(batch), probe.trained)
        for tensor, grad in zip(probe.trained, grads, strict=True):
            tensor.grad = grad
        optimiser.step()
        run.progress(step + 1, plan.steps, "probing")
    return probe.predicted()


class Probe:
    """Linear classifiers at several places, and a change of low rank to the embeddings."""

    def __init__(
        self, model: nn.Module, readings: Readings, train: Bool[np.ndarray, " texts"],
        plan: ProbePlan, run: Run, purpose: str,
    ) -> None:  # fmt: skip
        self.body: Any = model.eval().base_model
        self.embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
        self.readings, self.plan = readings, plan
        weight = self.embedding.weight
        kind = {"dtype": torch.promote_types(weight.dtype, torch.float32), "device": weight.device}
        self.kind = kind
        width, places = self._width(), readings.places.shape[1]
        classes = sum(readings.classes)
        self.heads = torch.zeros((places, width, classes), requires_grad=True, **kind)
        self.bias = torch.zeros((places, classes), requires_grad=True, **kind)
        self.trained = [self.heads, self.bias]
        self.tokens, self.mask = _padded(readings.tokens)
        used, place = np.unique(self.tokens, return_inverse=True)
        self.place = torch.from_numpy(place.reshape(self.tokens.shape)).to(weight.device)
        self.states: Tensor | None = None
        if plan.rank:
            source = torch_stream(run.seed, purpose, "change")
            first = torch.randn((plan.rank, weight.shape[1]), generator=source)
            self.right = (first.to(**kind) / weight.shape[1] ** 0.5).requires_grad_()
            # One row for each token that occurs: no other row of B would ever get a gradient.
            self.left = torch.zeros((len(used), plan.rank), requires_grad=True, **kind)
            self.trained += [self.left, self.right]
            own = [set(ids) for ids, use in zip(readings.tokens, train, strict=True) if use]
            having = np.array([sum(token in ids for ids in own) for token in used.tolist()])
            self.free = torch.from_numpy(having >= plan.shared).to(**kind).unsqueeze(1)
        else:  # nothing before the classifiers changes, so one pass is enough
            self.states = torch.cat([self._read(rows) for rows in self._blocks()]).detach()

    def loss(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, ""]:
        """Mean cross-entropy over texts, places and facts."""
        logits = self._logits(rows)
        labels = torch.from_numpy(self.readings.labels[rows]).to(logits.device)
        parts = logits.split(list(self.readings.classes), dim=-1)
        total = logits.new_zeros(())
        for fact, part in enumerate(parts):
            wanted = labels[:, fact].unsqueeze(1).expand(-1, part.shape[1])
            total = total + nn.functional.cross_entropy(part.flatten(0, 1), wanted.flatten())
        return total / len(parts)

    @torch.no_grad()
    def predicted(self) -> Int[np.ndarray, "texts places facts"]:
        """The likeliest class at each place, for each fact."""
        found = []
        for rows in self._blocks():
            parts = self._logits(rows).split(list(self.readings.classes), dim=-1)
            found.append(torch.stack([part.argmax(-1) for part in parts], -1).cpu().numpy())
        return np.concatenate(found)

    def _logits(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, "rows places classes"]:
        states = self._read(rows) if self.states is None else self.states[torch.from_numpy(rows)]
        return torch.einsum("rpw,pwc->rpc", states, self.heads) + self.bias

    def _read(self, rows: Int[np.ndarray, " rows"]) -> Float[Tensor, "rows places width"]:
        """Last hidden states at the places, of the network with changed embeddings."""
        device = self.embedding.weight.device
        length = int(self.mask[rows].sum(1).max())
        ids = torch.from_numpy(self.tokens[rows, :length]).to(device)
        given = self.embedding(ids).detach()
        if self.plan.rank:
            index = torch.from_numpy(rows).to(device)
            change = (self.left * self.free)[self.place[index, :length]] @ self.right
            given = given + change.to(given.dtype)
        mask = torch.from_numpy(self.mask[rows, :length]).long().to(device)
        answer = self.body(inputs_embeds=given, attention_mask=mask, use_cache=False)
        places = torch.from_numpy(self.readings.places[rows]).to(device)
        states = answer.last_hidden_state.to(self.kind["dtype"])
        return states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))

    @torch.no_grad()
    def _width(self) -> int:
        """Numbers in a hidden state, as the network itself gives them."""
        device = self.embedding.weight.device
        one = self.embedding(torch.tensor([[self.readings.tokens[0][0]]], device=device))
        return self.body(inputs_embeds=one, use_cache=False).last_hidden_state.shape[-1]

    def _blocks(self, size: int = 256) -> list[Int[np.ndarray, " rows"]]:
        rows = np.arange(len(self.readings.tokens))
        return [rows[i : i + size] for i in range(0, len(rows), size)]


def _padded(
    texts: Sequence[Sequence[int]],
) -> tuple[Int[np.ndarray, "texts time"], Bool[np.ndarray, "texts time"]]:
    """Tokens filled up with zeros on the right, and which of them are a text's own."""
    sizes = np.array([len(text) for text in texts])
    mask = np.arange(sizes.max()) < sizes[:, None]
    tokens = np.zeros(mask.shape, np.int64)
    tokens[mask] = np.concatenate([np.asarray(text, np.int64) for text in texts])
    return tokens, mask


def probe_findings(
    name: str, hits: Bool[np.ndarray, "people facts"], facts: Sequence[str], run: Run, purpose: str
) -> list[Finding]:
    """The share of hits over all facts, then of each, with intervals by person."""
    people = np.arange(len(hits))
    whose = np.repeat(people, len(facts))
    made = [share_of_owners(name, hits.ravel(), whose, run.stream(purpose, "all"))]
    for place, fact in enumerate(facts):
        rng = run.stream(purpose, "of", fact)
        made.append(share_of_owners(f"{name}, {fact}", hits[:, place], people, rng))
    return made

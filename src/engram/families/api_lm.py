"""Language models behind a server that speaks OpenAI's completions protocol.

`openai://HOST:PORT/MODEL` names one. What can be asked depends on the server: log-probabilities
of a record's own tokens where it echoes them; else those of the likeliest next tokens at a few
places of each record; else nothing but text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from engram.core import (
    SCORED,
    TOO_SHORT,
    EngramError,
    Finding,
    Sampler,
    Split,
    TokenSignals,
    stream,
)
from engram.parts.completion_answers import Echo, Next, Written, token_numbers
from engram.parts.completions import Address, Budget, Client, Patience
from engram.parts.prompt_streams import limits, prompt_seeds
from engram.parts.record_bootstrap import ratio_interval
from engram.parts.served_model import (
    ApiModel,
    Question,
    Watch,
    echo,
    following,
    probe,
    remembered,
    writing,
)
from engram.stats.intervals import mean_finding

OFFERED = {
    "echo": frozenset({"logprobs", "losses", "text"}),
    "top": frozenset({"losses", "text"}),
    "text": frozenset({"text"}),
}
TELLS = {
    "echo": "log-probabilities of every token",
    "top": "log-probabilities of the likeliest next tokens",
    "text": "text only",
}
DOUBTFUL = 2
"""Texts of fewer words than this may be a single token: the server is asked."""


def silent(done: int, total: int, what: str) -> None:
    """Watch nothing."""


class ApiLm:
    """The family of served language models."""

    name = "api-lm"
    answers = OFFERED["echo"]

    def check(self, split: Split) -> None:
        """Raise where there is no column `text` of strings."""
        _texts_family().check(split)

    def load(
        self,
        where: str | Path,
        device: str = "cpu",
        *,
        root: Path | None = None,
        budget: Budget | None = None,
        watch: Watch = silent,
        patience: Patience | None = None,
        threads: int = 8,
        positions: int = 8,
    ) -> ApiModel:
        """Reach a model, and find out by a probe of one to five requests what it offers.

        Args:
            where: `openai://HOST:PORT/MODEL`.
            device: Not used: the server computes.
            root: Folder under which its answers are kept; None: for this process only.
            budget: How many requests may be made.
            watch: Told how far a pass over records is.
            patience: How long a server that does not answer is waited for.
            threads: Requests in flight at once.
            positions: Places of a record at which next tokens are asked for, where the server
                does not echo.

        Raises:
            EngramError: The server cannot be reached, is no such server, or lacks the model.
        """
        client = Client(Address.parse(str(where)), budget or Budget(), patience or Patience())
        found = probe(client)
        fingerprint, answers = remembered(client, found, root)
        return ApiModel(client, found, fingerprint, answers, watch, threads, positions)

    def offered(self, model: ApiModel) -> frozenset[str]:
        """The answers that this server gives."""
        return OFFERED[model.probe.offers]

    def save(self, model: ApiModel, folder: Path) -> None:
        """Refuse: the weights are not here."""
        raise EngramError(
            f"{model.client.address.model!r} is behind a server, so it cannot be saved",
            hint="audit it where it is, or train on the folder of its weights",
        )

    def fingerprint(self, model: ApiModel) -> str:
        """The same as long as the server says the same."""
        return model.fingerprint

    def describe(self, model: ApiModel) -> Mapping[str, Any]:
        """Where it is served, what it calls itself, and what it tells."""
        facts: dict[str, Any] = {
            "server": model.client.address.base,
            "model": model.client.address.model,
            "tells": TELLS[model.probe.offers],
            "requests": model.client.budget.spent,
        }
        if fingerprint := model.probe.who.get("system_fingerprint"):
            facts["system_fingerprint"] = fingerprint
        if model.probe.offers == "top":
            facts["losses"] = (
                f"from the {model.probe.top} likeliest tokens at {model.positions} places of each "
                "record; a token that is not among them counts as the last of them, so that the "
                "true loss is at least as large"
            )
        return facts

    def outcomes(self, model: ApiModel, split: Split) -> tuple[str, ...]:
        """What came of each record: "too-short" where the server has nothing to say of it."""
        words = [len(text.split()) for text in split.texts]
        if model.probe.offers != "echo":
            return tuple(SCORED if count > 1 else TOO_SHORT for count in words)
        asked = self.doubtful(model, split)
        said = zip(asked, model.ask(asked), strict=True)
        scored = {question.about for question, each in said if each.tokens}
        return tuple(
            SCORED if count >= DOUBTFUL or about(name) in scored else TOO_SHORT
            for name, count in zip(split.ids, words, strict=True)
        )

    def doubtful(self, model: ApiModel, split: Split) -> list[Question[Echo]]:
        """What is asked to see whether the server has anything to say of a record."""
        if model.probe.offers != "echo":
            return []
        short = [len(text.split()) < DOUBTFUL for text in split.texts]
        return self.echoes(model, split.where(short)) if any(short) else []

    def echoes(self, model: ApiModel, split: Split) -> list[Question[Echo]]:
        """What is asked about the tokens of these records; nothing about an empty one."""
        texts = zip(split.ids, split.texts, strict=True)
        return [echo(text, model.probe.written, about(name)) for name, text in texts if text]

    def logprobs(self, model: ApiModel, split: Split) -> TokenSignals:
        """Log-probabilities of the tokens of every record, and nothing else of the signals."""
        said = model.ask(self.echoes(model, split))
        tokens, numbers = [np.zeros(0, np.int64)], [np.zeros(0)]
        for text in split.texts:
            echoed = next(said) if text else Echo((), ())
            tokens.append(token_numbers(echoed.tokens))
            numbers.append(np.array(echoed.logprobs, np.float64))
        offsets = np.cumsum([len(each) for each in tokens], dtype=np.int64)
        return TokenSignals(split.ids, offsets, np.concatenate(tokens), np.concatenate(numbers))

    def places(self, model: ApiModel, split: Split) -> list[tuple[int, Question[Next], str]]:
        """Row, question, and what really follows, for some word borders of every record.

        They are drawn by a stream of the text alone, so that its company does not matter.
        """
        found = []
        for row, (name, text) in enumerate(zip(split.ids, split.texts, strict=True)):
            borders = [
                i
                for i in range(1, len(text) - 1)
                if text[i].isspace() and not text[i + 1].isspace()
            ]
            borders = [i for i in borders if not text[:i].isspace()]
            rng = stream(0, "places of a record", text)
            for i in sorted(rng.permutation(borders)[: model.positions].tolist()):
                asked = following(text[:i], model.probe.top, about(name))
                found.append((row, asked, text[i:]))
        return found

    def losses(self, model: ApiModel, split: Split) -> Float[np.ndarray, " n"]:
        """Mean negative log-likelihood per token; see `describe` for servers that do not echo."""
        if model.probe.offers == "echo":
            return self.logprobs(model, split).losses()
        places = self.places(model, split)
        said = model.ask([question for _, question, _ in places])
        total, count = np.zeros(len(split)), np.zeros(len(split))
        for (row, _, rest), tops in zip(places, said, strict=True):
            total[row] -= tops.bound(rest)[0]
            count[row] += 1
        return total / np.maximum(count, 1)

    def sampler(
        self, model: ApiModel, temperature: float, progress: Callable[[int, int, str], None]
    ) -> Sampler:
        """Text access: it writes, and tells nothing else."""
        return ServedWriter(model, temperature)

    def quality(
        self, model: ApiModel, split: Split, rng: np.random.Generator
    ) -> tuple[Finding, ...]:
        """Perplexity over all tokens, and the mean loss of a record."""
        if model.probe.offers != "echo":
            reason = f"the server gives {TELLS[model.probe.offers]}"
            return (Finding.missing("perplexity", reason, len(split)),)
        signals = self.logprobs(model, split)
        scored = signals.lengths > 0
        if scored.sum() < 2:
            reason = "fewer than two records have tokens that the model scores"
            return (Finding.missing("perplexity", reason, int(scored.sum())),)
        losses, lengths = signals.losses()[scored], signals.lengths[scored].astype(np.float64)
        nll = losses * lengths
        low, high = np.exp(ratio_interval(nll, lengths, rng))
        value = float(np.exp(nll.sum() / lengths.sum()))
        perplexity = Finding("perplexity", value, float(low), float(high), len(nll))
        loss = mean_finding(losses, "loss", "nats/token", rng)
        return perplexity.tagged(better="lower"), loss.tagged(better="lower")

    def perturb(self, split: Split, strength: float, rng: np.random.Generator) -> Split:
        """Replace a share of the words of each record by words of the other records."""
        return _texts_family().perturb(split, strength, rng)

    def canaries(self, n: int, rng: np.random.Generator) -> Split:
        """Sentences that hold a random six-digit secret."""
        return _texts_family().canaries(n, rng)

    def render(self, split: Split, row: int) -> str:
        """The text."""
        return split.texts[row]


@dataclass(frozen=True, eq=False)
class ServedWriter:
    """Text access to a served model; implements `engram.core.Sampler`."""

    model: ApiModel
    temperature: float

    def questions(
        self, prompts: Sequence[str], tokens: Sequence[int] | int, rng: np.random.Generator
    ) -> list[Question[Written] | None]:
        """What is asked for each prompt; nothing where nothing is to be written."""
        wanted = limits(tokens, len(prompts))
        return [
            writing(prompt, limit, self.temperature, seed, f"prompt {number} ({prompt[:30]!r})")
            if limit
            else None
            for number, (prompt, limit, seed) in enumerate(
                zip(prompts, wanted, prompt_seeds(prompts, wanted, rng), strict=True), 1
            )
        ]

    def write(
        self, prompts: Sequence[str], tokens: Sequence[int] | int, rng: np.random.Generator
    ) -> list[str]:
        """Continue each prompt; the server is told a seed, and may or may not heed it."""
        asked = self.questions(prompts, tokens, rng)
        said = self.model.ask([q for q in asked if q is not None], "writing")
        return [next(said).text if q is not None else "" for q in asked]


def about(record: str) -> str:
    """How messages name a record."""
    return f"record {record!r}"


def _texts_family() -> Any:
    """What it has in common with the language models that are here."""
    from engram.families.causal_lm import FAMILY as TEXTS

    return TEXTS


FAMILY = ApiLm()

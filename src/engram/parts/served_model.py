"""A language model behind a server: what it offers, whether it is still the same, its answers."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from engram.core import EngramError, nearest
from engram.parts.answer_store import AnswerStore
from engram.parts.completion_answers import (
    Echo,
    Next,
    Written,
    choice,
    has_logprobs,
    identity,
    prompt_tokens,
)
from engram.parts.completions import Client, RefusedError
from engram.parts.threads import together

Watch = Callable[[int, int, str], None]
Offer = Literal["echo", "top", "text"]
PROBE = "The quick brown fox jumps over the lazy dog, and in 1984 nobody at the mill was surprised"
LADDER: tuple[tuple[Offer, int, int], ...] = (
    ("echo", 0, 1), ("echo", 1, 1), ("top", 1, 20), ("top", 1, 5), ("text", 1, 0),
)  # fmt: skip
"""What is tried in turn: the offer, tokens to be written, likeliest tokens to be told."""
NOT_OFFERED = (400, 422, 500, 501)
SAME = 0.02
"""Mean difference of the probe's log-probabilities up to which the model is the same one: servers
add in another order from day to day, and round to few bits."""
CHECK = 512
"""Answers after which the probe is asked again."""
MODEL = "model.json"
A = TypeVar("A", Echo, Next, Written)


@dataclass(frozen=True)
class Question(Generic[A]):
    """One request, and how its answer is to be read.

    Attributes:
        kind: `Echo`, `Next` or `Written`.
        body: What is posted, without the model's name.
        about: What it is about, for messages.
    """

    kind: type[A]
    body: Mapping[str, Any]
    about: str

    @property
    def key(self) -> str:
        """The same question has the same key, whatever it is asked about."""
        text = json.dumps([self.kind.__name__, self.body], sort_keys=True)
        return sha256(text.encode()).hexdigest()[:32]

    def read(self, answer: Mapping[str, Any]) -> A:
        """Check an answer, and take what is needed from it."""
        if self.kind is Echo:
            limit = self.body["max_tokens"]
            return self.kind.of(answer, self.body["prompt"], limit, self.about)  # type: ignore
        if self.kind is Next:
            return self.kind.of(answer, self.about)  # type: ignore[call-arg,return-value]
        return self.kind.of(answer, self.body["max_tokens"], self.about)  # type: ignore


def echo(text: str, written: int, about: str) -> Question[Echo]:
    """Ask for the log-probabilities of a text's own tokens."""
    body = {"prompt": text, "max_tokens": written, "echo": True, "logprobs": 1, "temperature": 1.0}
    return Question(Echo, body, about)


def following(text: str, top: int, about: str) -> Question[Next]:
    """Ask for the likeliest next tokens."""
    body = {"prompt": text, "max_tokens": 1, "logprobs": top, "temperature": 1.0}
    return Question(Next, body, about)


def writing(
    prompt: str, limit: int, temperature: float, seed: int, about: str
) -> Question[Written]:
    """Ask for a continuation; greedy ones need no seed."""
    body: dict[str, Any] = {"prompt": prompt, "max_tokens": limit, "temperature": temperature}
    if temperature:
        body["seed"] = seed % 2**31
    return Question(Written, body, about)


@dataclass(frozen=True)
class Probe:
    """What a server offers, and what its model says of one sentence.

    Attributes:
        offers: Log-probabilities of a text ("echo"), of next tokens ("top"), or only text.
        written: Tokens that it has to write beside an echo.
        top: How many likeliest tokens it tells.
        who: Which model it says that it is.
        numbers: Log-probabilities, by place and token.
        density: Tokens for each character of the sentence.
    """

    offers: Offer
    written: int
    top: int
    who: Mapping[str, str]
    numbers: Mapping[str, float]
    density: float = 0.25

    def difference(self, other: "Probe") -> str:
        """How another probe shows another model; "" where it does not."""
        for name in sorted({*self.who, *other.who}):
            mine, its = self.who.get(name, "none"), other.who.get(name, "none")
            if mine != its:
                return f"its {name.replace('_', ' ')} was {mine!r} and is {its!r}"
        both = self.numbers.keys() & other.numbers.keys()
        if 2 * len(both) < len(self.numbers.keys() | other.numbers.keys()):
            return "it cuts the same sentence into other tokens, or goes on with others"
        apart = [abs(self.numbers[name] - other.numbers[name]) for name in both]
        if apart and (mean := float(np.mean(apart))) > SAME:
            return f"its log-probabilities of the same sentence differ by {mean:.3g} on average"
        return ""


def probe(client: Client) -> Probe:
    """Find out what a server offers; one to five requests.

    Raises:
        EngramError: It cannot be reached, or does not have the model.
    """
    known = _models(client)
    for number, step in enumerate(LADDER, 1):
        try:
            found = _probed(client, *step)
        except RefusedError as refusal:
            final = refusal.status not in NOT_OFFERED or number == len(LADDER)
            strange = known and client.address.model not in known
            if final and refusal.status in (400, 404, 422) and strange:
                raise _no_such_model(client, known) from None
            if final:
                raise
            found = None
        if found is not None:
            return found
    raise AssertionError("the last step answers or raises")


def _probed(client: Client, offers: Offer, written: int, top: int, tries: int = 2) -> Probe | None:
    """What the server offers at one step of the ladder; None where it does not."""
    about = "the probe"
    asked: Question[Any] = {
        "echo": lambda: echo(PROBE, written, about),
        "top": lambda: following(PROBE, top, about),
        "text": lambda: writing(PROBE, written, 1.0, 0, about),
    }[offers]()
    answer = post(client, asked, tries=tries)
    numbers: dict[str, float] = {}
    if offers != "text" and not has_logprobs(answer, about):
        return None
    if offers == "echo":
        # A server that knows nothing of `echo` answers with what it wrote.
        if not str(choice(answer, about).get("text")).startswith(PROBE):
            return None
        said = asked.read(answer)
        places = zip(said.tokens, said.logprobs, strict=True)
        numbers = {f"{place} {token}": x for place, (token, x) in enumerate(places)}
    elif offers == "top":
        if not _tells_next(answer):
            return None
        numbers = dict(asked.read(answer).tops)
    else:
        asked.read(answer)
    counted = prompt_tokens(answer) or len(numbers)
    density = max(counted, 1) / len(PROBE) if offers == "echo" or counted > top else 0.25
    return Probe(offers, written, top, identity(answer), numbers, density)


def _tells_next(answer: Mapping[str, Any]) -> bool:
    given = choice(answer, "the probe").get("logprobs")
    return isinstance(given, dict) and bool(given.get("top_logprobs") or given.get("content"))


def post(
    client: Client, question: Question[Any], stop: Event | None = None, tries: int = 0
) -> dict[str, Any]:
    """Ask a question of the client's model."""
    body = {"model": client.address.model, **question.body}
    return client.ask("completions", body, question.about, stop, tries)


def _models(client: Client) -> list[str]:
    """Names of the models that a server has; [] where it does not say."""
    try:
        found = client.ask("models", None, "which models it has", tries=2).get("data")
    except RefusedError as refusal:
        if refusal.status in (404, 405) or refusal.status >= 500:
            return []  # it need not say which; whether it has this one, the probe tells
        raise
    names = [m.get("id") for m in found if isinstance(m, dict)] if isinstance(found, list) else []
    names = [str(name)[:200] for name in names]
    if not client.address.model:
        raise _no_such_model(client, names)
    return names


def _no_such_model(client: Client, known: Sequence[str]) -> EngramError:
    name, some = client.address.model, ", ".join(known[:5]) or "no model at all"
    return EngramError(
        f"{client.address.base} has no model called {name!r}"
        if name
        else "the address names no model",
        hint=nearest(name, known, f"it has {some}; openai://HOST:PORT/MODEL"),
    )


@dataclass(frozen=True, eq=False)
class ApiModel:
    """A model that is reached through a server.

    Attributes:
        client: Asks it.
        probe: What it offers, and what it said when it was opened.
        fingerprint: The same as long as it is the same model.
        answers: Everything that it ever said.
        watch: Told how far a pass is.
        threads: Requests in flight at once.
        positions: Places of a record at which next tokens are asked for, where the server does
            not tell log-probabilities of the record itself.
    """

    client: Client
    probe: Probe
    fingerprint: str
    answers: AnswerStore
    watch: Watch
    threads: int = 8
    positions: int = 8

    def ask(self, questions: Sequence[Question[A]], what: str = "answers") -> Iterator[A]:
        """All answers, in order, read from the store; what is missing is asked for first.

        Raises:
            EngramError: An answer cannot be had or used, or the model was exchanged meanwhile.
        """
        missing = self.missing(questions)
        done = 0
        for first in range(0, len(missing), CHECK):
            block = missing[first : first + CHECK]
            for _ in together(self._put, block, self.threads):
                done += 1
                self.watch(done, len(missing), what)
            # Alone, as at the beginning: then the server adds up in the same order.
            self.check()
        return map(self._stored, questions)

    def missing(self, questions: Iterable[Question[Any]]) -> list[Question[Any]]:
        """The questions that are not answered yet, each once."""
        different = {question.key: question for question in questions}
        return [question for key, question in different.items() if key not in self.answers]

    def check(self) -> None:
        """Ask the probe again.

        Raises:
            EngramError: Another model answers; what came since the last check is forgotten.
        """
        now = self.probe
        found = _probed(self.client, now.offers, now.written, now.top, tries=0)
        if found is None:
            raise self._exchanged("it no longer tells the same log-probabilities")
        if difference := self.probe.difference(found):
            raise self._exchanged(difference)
        self.answers.checked()

    def _put(self, question: Question[A], stop: Event | None = None) -> A:
        answer = post(self.client, question, stop)
        if identity(answer) != self.probe.who:
            found = replace(self.probe, who=identity(answer))
            raise self._exchanged(self.probe.difference(found))
        read = question.read(answer)
        self.answers.put(question.key, asdict(read))
        return read

    def _stored(self, question: Question[A]) -> A:
        try:
            return question.kind.kept(self.answers.get(question.key), question.about)  # type: ignore
        except EngramError:  # a damaged line: it is asked for again
            return self._put(question)

    def _exchanged(self, difference: str) -> EngramError:
        self.answers.void()
        return EngramError(
            f"{self.client.address.base} answers with another model than before, under the name "
            f"{self.client.address.model!r}: {difference}",
            hint="an audit is of one model: start it again when the server has settled. Answers "
            "of the two are not mixed",
        )


def fingerprint(client: Client, found: Probe) -> str:
    """A hash of the model's name and what it said; only of its place where it says nothing."""
    place = client.address.base if found.offers == "text" else ""
    facts = [place, client.address.model, asdict(found)]
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def remembered(client: Client, found: Probe, root: Path | None) -> tuple[str, AnswerStore]:
    """The fingerprint and the answers of this model, which may have been asked before.

    Answers that were not checked when another model was found in its place are forgotten.
    """
    if root is None:
        return fingerprint(client, found), AnswerStore()
    for path in sorted(root.glob(f"api-*/{MODEL}")):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            before, place = Probe(**facts["probe"]), (facts["base"], facts["model"])
            difference = before.difference(found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue  # not ours, or damaged: it is not used
        same_place = found.offers != "text" or place[0] == client.address.base
        if place[1] != client.address.model or before.offers != found.offers or not same_place:
            continue
        if not difference:
            return path.parent.name.removeprefix("api-"), AnswerStore(path.parent)
        if place[0] == client.address.base:
            AnswerStore(path.parent).void()
    name = fingerprint(client, found)
    store = AnswerStore(root / f"api-{name}")
    facts = {"base": client.address.base, "model": client.address.model, "probe": asdict(found)}
    part = root / f"api-{name}" / f"{MODEL}.part"
    part.write_text(json.dumps(facts, indent=2), encoding="utf-8")
    part.replace(part.with_suffix(""))
    return name, store

"""What a report is drawn from: `run.json`, read as untrusted input into typed, checked values.

Every value knows where it stands in the document, so a broken one is named in the error. Unknown
keys are ignored: a newer engine may write more than this report draws.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

from engram.core.errors import EngramError, nearest
from engram.core.finding import Better, Finding
from engram.report import wording
from engram.report.comparison import ComparisonDocument, parse_comparison
from engram.report.costs import Costs
from engram.report.measured import MeasurementDocument, parse_measurement
from engram.report.observed import Observation
from engram.report.pictures import Picture

FILE = "run.json"
KINDS = ("audit", "story", "comparison", "measurement")
MAX_EXPOSED = 30
"""Records read for showing; the document may list more, and the report says so."""

Level = Literal["leak", "no leak found", "inflated", "unknown"]
SplitVerdict = Literal["clean", "inflated", "overlapping", "unknown"]

_HINT = "run the audit again: `engram audit` writes this file when it ends, and only then"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Verdict:
    """The result in one sentence."""

    level: Level
    sentence: str


@dataclass(frozen=True)
class TargetFacts:
    """What was audited; `raw` is the whole entry, as `report.json` repeats it."""

    name: str
    family: str
    fingerprint: str
    access: str
    lineage: Mapping[str, object]
    facts: Mapping[str, object]
    raw: Mapping[str, object]


@dataclass(frozen=True)
class Setup:
    """On which records, and how, the target was audited."""

    members: int
    outsiders: int
    owners: int | None
    seed: int
    device: str
    data: str
    settings: Mapping[str, object]


@dataclass(frozen=True)
class SplitAudit:
    """Whether members and outsiders can be told apart without the model."""

    verdict: SplitVerdict
    sentence: str
    findings: tuple[Finding, ...]
    pairs: tuple["NearPair", ...] = ()
    """Outsiders that nearly repeat a member, the most alike first; not more than a few."""
    pairs_total: int = 0


@dataclass(frozen=True)
class NearPair:
    """Ids of an outsider and of the member that it nearly repeats."""

    outsider: str
    member: str
    share: float
    """How much of their text is the same, in [0, 1]."""


@dataclass(frozen=True)
class Headline:
    """The one attack whose numbers the verdict rests on."""

    attack: str
    how: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Roc:
    """Points of an ROC staircase, by rising false positive rate; both in [0, 1]."""

    fpr: tuple[float, ...]
    tpr: tuple[float, ...]


@dataclass(frozen=True)
class Histogram:
    """Counts of members and outsiders between neighbouring `edges`."""

    edges: tuple[float, ...]
    members: tuple[float, ...]
    outsiders: tuple[float, ...]


@dataclass(frozen=True)
class AttackResult:
    """What one attack found."""

    name: str
    summary: str
    paper: str
    unit: str
    inflated: bool
    findings: tuple[Finding, ...]
    owner_findings: tuple[Finding, ...]
    roc: Roc | None
    histogram: Histogram | None


@dataclass(frozen=True)
class Token:
    """A token with its log-probability, in nats, under the target and under the reference."""

    text: str
    logprob: float | None
    reference: float | None


@dataclass(frozen=True)
class ExposedRecord:
    """A record that the target gives away; `percentile` is the share of outsiders above it."""

    id: str
    owner: str
    score: float
    attack: str
    percentile: float
    tokens: tuple[Token, ...]
    says: str = ""
    """The record in words, where it has no tokens."""
    picture: Picture | None = None


@dataclass(frozen=True)
class ExposedOwner:
    """An owner whose records the target gives away."""

    owner: str
    records: int
    score: float
    percentile: float


@dataclass(frozen=True)
class Extraction:
    """A record that was prompted with its own beginning; counts are of tokens."""

    id: str
    owner: str
    prefix: str
    truth: str
    generated: str
    matched: int
    total: int


@dataclass(frozen=True)
class AuditDocument:
    """An audit, as `run.json` holds it."""

    engram: str
    id: str
    created: str
    seconds: float
    target: TargetFacts
    verdict: Verdict
    setup: Setup
    split_audit: SplitAudit
    headline: Headline
    attacks: tuple[AttackResult, ...]
    measures: tuple[Finding, ...]
    exposed: tuple[ExposedRecord, ...]
    exposed_total: int
    owners: tuple[ExposedOwner, ...]
    extraction: tuple[Extraction, ...]
    trace: tuple[Mapping[str, float], ...]
    observed: tuple[Observation, ...]
    """What a monitor saw while the model was trained, oldest first."""
    not_measured: tuple[str, ...]
    outcomes: Mapping[str, int]
    warnings: tuple[str, ...]
    pictures: tuple[tuple[str, tuple[Picture, ...]], ...] = ()
    """Rows of pictures that the target was trained on, where they are not what was recorded."""


@dataclass(frozen=True)
class LeakOutput:
    """What one model wrote when it was given the leak's prefix; counts are of tokens."""

    model: str
    text: str
    matched: int
    total: int
    exact: bool


@dataclass(frozen=True)
class Leak:
    """One named leak, and what each model makes of its prefix."""

    owner: str
    field: str
    prefix: str
    truth: str
    outputs: tuple[LeakOutput, ...]


@dataclass(frozen=True)
class ComparisonRow:
    """One number, for each of the compared models."""

    name: str
    unit: str
    better: Better
    cells: tuple[Finding, ...]


@dataclass(frozen=True)
class Step:
    """Something that was done, in words."""

    title: str
    text: str


@dataclass(frozen=True)
class StoryAudit:
    """An audit inside a story."""

    title: str
    document: AuditDocument


@dataclass(frozen=True)
class StoryDocument:
    """What was done to a model and what came of it, with the audits that show it."""

    engram: str
    id: str
    created: str
    seconds: float
    title: str
    lead: str
    verdict: Verdict
    leak: Leak | None
    columns: tuple[str, ...] = ()
    rows: tuple[ComparisonRow, ...] = ()
    steps: tuple[Step, ...] = ()
    audits: tuple[StoryAudit, ...] = field(default=())
    costs: Costs | None = None
    """Of deletions from a model in shards."""


Document = AuditDocument | StoryDocument | ComparisonDocument | MeasurementDocument


def parse(document: Mapping[str, object]) -> Document:
    """The typed form of an audit, a story, a comparison or a measurement.

    Raises:
        EngramError: a key is missing or holds something else; the message says where.
    """
    root = Node(document, FILE)
    kind = root["kind"].text()
    if kind == "audit":
        return _audit(root)
    if kind == "story":
        return _story(root)
    if kind == "comparison":
        return parse_comparison(root)
    if kind == "measurement":
        return parse_measurement(root)
    raise EngramError(
        f"{FILE} is of kind {clean(kind)[:40]!r}, but reports are drawn of an audit, a story, "
        "a comparison or a measurement",
        hint=nearest(kind, KINDS, "give the folder that `engram audit` wrote"),
    )


def clean(text: str) -> str:
    """Text without characters that break a page: controls and lone surrogates become U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


@dataclass(frozen=True)
class Node:
    """A value of the document, and where it stands."""

    value: object
    where: str

    def wrong(self, expected: str) -> EngramError:
        """The error that this value is not what it must be."""
        shown = clean(repr(self.value)[:60])
        return EngramError(f"{self.where} is {shown}, but must be {expected}", hint=_HINT)

    def mapping(self) -> dict[str, object]:
        """This value as a JSON object, cleaned throughout."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        try:
            return {clean(str(key)): _plain(item) for key, item in self.value.items()}
        except RecursionError:
            raise EngramError(f"{self.where} is nested too deeply", hint=_HINT) from None

    def __getitem__(self, key: str) -> "Node":
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        if key not in self.value:
            raise EngramError(f"{self.where} has no {key!r}", hint=_HINT)
        return Node(self.value[key], f"{self.where}: {key}")

    def get(self, key: str, default: object) -> "Node":
        """The value under `key`, or `default` where it is absent or null."""
        if not isinstance(self.value, Mapping):
            raise self.wrong("an object")
        found = self.value.get(key)
        return Node(default if found is None else found, f"{self.where}: {key}")

    def items(self) -> Iterator["Node"]:
        """The entries of a list."""
        if not isinstance(self.value, list | tuple):
            raise self.wrong("a list")
        for place, item in enumerate(self.value):
            yield Node(item, f"{self.where}[{place}]")

    def text(self) -> str:
        """This value as text."""
        if not isinstance(self.value, str):
            raise self.wrong("text")
        return clean(self.value)

    def texts(self) -> tuple[str, ...]:
        """This value as a list of texts."""
        return tuple(item.text() for item in self.items())

    def choice(self, allowed: tuple[str, ...]) -> str:
        """This value as one of a few words."""
        if not isinstance(self.value, str) or self.value not in allowed:
            raise self.wrong(" or ".join(repr(word) for word in allowed))
        return str(self.value)

    def flag(self) -> bool:
        """This value as true or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def number(self) -> float:
        """This value as a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("a number")
        try:
            number = float(self.value)
        except OverflowError:
            raise self.wrong("a number of double precision") from None
        if not math.isfinite(number):
            raise self.wrong("a finite number")
        return number

    def maybe(self) -> float | None:
        """This value as a finite number, or None where it is null."""
        return None if self.value is None else self.number()

    def numbers(self) -> tuple[float, ...]:
        """This value as a list of finite numbers; the way by `Node` is taken for a bad one only."""
        if isinstance(self.value, list | tuple) and all(map(_is_finite, self.value)):
            return tuple(map(float, self.value))
        return tuple(item.number() for item in self.items())

    def share(self) -> float:
        """This value as a fraction in [0, 1]."""
        number = self.number()
        if not 0 <= number <= 1:
            raise self.wrong("a fraction in [0, 1]")
        return number

    def count(self) -> int:
        """This value as a whole number, 0 or more."""
        number = self.number()
        if number < 0 or number != int(number):
            raise self.wrong("a count")
        return int(number)


def _is_finite(value: object) -> bool:
    return type(value) in (float, int) and -1e308 < value < 1e308  # type: ignore[operator]


def _plain(value: object) -> object:
    """JSON that can be written again: no NaN, no lone surrogates, text keys."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 10**300 else "a number of more than 300 digits"
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return clean(str(value))


def _audit(node: Node) -> AuditDocument:
    attacks = tuple(_attack(item) for item in node["attacks"].items())
    exposed = list(node.get("exposed", []).items())
    return AuditDocument(
        engram=node["engram"].text(),
        id=node["id"].text(),
        created=node["created"].text(),
        seconds=node.get("seconds", 0).number(),
        target=target_of(node["target"]),
        verdict=verdict_of(node["verdict"]),
        setup=_setup(node["setup"]),
        split_audit=_split_audit(node["split_audit"]),
        headline=_headline(node["headline"], attacks),
        attacks=attacks,
        measures=findings_of(node.get("measures", [])),
        exposed=tuple(_exposed(item) for item in exposed[:MAX_EXPOSED]),
        exposed_total=len(exposed),
        owners=tuple(_owner(item) for item in node.get("owners", []).items()),
        extraction=tuple(_extraction(item) for item in node.get("extraction", []).items()),
        trace=tuple(_trace_entry(item) for item in node.get("trace", []).items()),
        observed=tuple(_observation(item) for item in node.get("observed", []).items()),
        not_measured=node["not_measured"].texts(),
        outcomes=_outcomes(node.get("outcomes", {})),
        warnings=node.get("warnings", []).texts(),
        pictures=tuple(_row_of_pictures(row) for row in node.get("pictures", []).items()),
    )


def _row_of_pictures(node: Node) -> tuple[str, tuple[Picture, ...]]:
    return node["name"].text(), tuple(Picture.of(one) for one in node["pictures"].items())


def target_of(node: Node) -> TargetFacts:
    """What is told of a target, checked."""
    return TargetFacts(
        name=node["name"].text(),
        family=node["family"].text(),
        fingerprint=node.get("fingerprint", "").text(),
        access=node.get("access", "").text(),
        lineage=node.get("lineage", {}).mapping(),
        facts=node.get("facts", {}).mapping(),
        raw=node.mapping(),
    )


def verdict_of(node: Node) -> Verdict:
    """The result in one sentence, checked."""
    level = node["level"].choice(get_args(Level))
    return Verdict(level, node["sentence"].text())  # type: ignore[arg-type]


def _setup(node: Node) -> Setup:
    owners = node.get("owners", None)
    return Setup(
        members=node["members"].count(),
        outsiders=node["outsiders"].count(),
        owners=None if owners.value is None else owners.count(),
        seed=node.get("seed", 0).count(),
        device=node.get("device", "").text(),
        data=node.get("data", "").text(),
        settings=node.get("settings", {}).mapping(),
    )


def _split_audit(node: Node) -> SplitAudit:
    verdict = node["verdict"].choice(get_args(SplitVerdict))
    sentence = node["sentence"].text()
    pairs = tuple(
        NearPair(pair["outsider"].text(), pair["member"].text(), pair["share"].share())
        for pair in node.get("pairs", []).items()
    )
    total = node.get("pairs_total", len(pairs)).count()
    return SplitAudit(verdict, sentence, findings_of(node["findings"]), pairs, total)  # type: ignore[arg-type]


def _headline(node: Node, attacks: tuple[AttackResult, ...]) -> Headline:
    attack = node.get("attack", "").text()
    names = [one.name for one in attacks]
    if attack and attack not in names:
        known = wording.clip(", ".join(names), 200)
        raise Node(attack, f"{node.where}: attack").wrong(f"one of the attacks: {known}")
    return Headline(attack, node.get("how", "").text(), findings_of(node.get("findings", [])))


def _attack(node: Node) -> AttackResult:
    roc, histogram = node.get("roc", None), node.get("histogram", None)
    return AttackResult(
        name=node["name"].text(),
        summary=node.get("summary", "").text(),
        paper=node.get("paper", "").text(),
        unit=node.get("unit", "").text(),
        inflated=node.get("inflated", False).flag(),
        findings=findings_of(node["findings"]),
        owner_findings=findings_of(node.get("owner_findings", [])),
        roc=_roc(roc) if roc.value else None,
        histogram=_histogram(histogram) if histogram.value else None,
    )


def _roc(node: Node) -> Roc | None:
    fpr, tpr = node["fpr"].numbers(), node["tpr"].numbers()
    for name, rates in (("fpr", fpr), ("tpr", tpr)):
        if rates and not (min(rates) >= 0 and max(rates) <= 1):
            raise node[name].wrong("fractions in [0, 1]")
    if len(fpr) != len(tpr):
        raise node.wrong(f"as many fpr as tpr, not {len(fpr)} and {len(tpr)}")
    points = sorted(zip(fpr, tpr, strict=True))
    return Roc(tuple(f for f, _ in points), tuple(t for _, t in points)) if points else None


def _histogram(node: Node) -> Histogram | None:
    edges, members = node["edges"].numbers(), node["members"].numbers()
    outsiders = node["outsiders"].numbers()
    if not members and not outsiders:
        return None
    if not len(edges) - 1 == len(members) == len(outsiders):
        raise node.wrong("one more edge than there are counts, on both sides")
    if any(one >= other for one, other in pairwise(edges)):
        raise node["edges"].wrong("rising")
    if min(members) < 0 or min(outsiders) < 0:
        raise node.wrong("counts, none below 0")
    return Histogram(edges, members, outsiders)


def findings_of(node: Node) -> tuple[Finding, ...]:
    """A list of findings, checked."""
    return tuple(_finding(item) for item in node.items())


def _finding(node: Node) -> Finding:
    better = node.get("better", "").choice(get_args(Better))
    try:
        return Finding(
            name=node["name"].text(),
            value=node["value"].maybe(),
            low=node["low"].maybe(),
            high=node["high"].maybe(),
            n=node["n"].count(),
            unit=node.get("unit", "").text(),
            method=node.get("method", "").text(),
            split=node.get("split", "").text(),
            note=node.get("note", "").text(),
            better=better,  # type: ignore[arg-type]
        )
    except EngramError as problem:
        if str(problem).startswith(FILE):
            raise
        raise EngramError(f"{node.where}: {problem}", hint=_HINT) from problem


def _exposed(node: Node) -> ExposedRecord:
    picture = node.get("picture", None)
    return ExposedRecord(
        id=node["id"].text(),
        owner=node.get("owner", "").text(),
        score=node["score"].number(),
        attack=node.get("attack", "").text(),
        percentile=node["percentile"].share(),
        tokens=_tokens(node.get("tokens", [])),
        says=node.get("says", "").text(),
        picture=Picture.of(picture) if picture.value else None,
    )


def _tokens(node: Node) -> tuple[Token, ...]:
    """A record's tokens. There may be very many, so a good one is taken without ceremony."""
    found = []
    for item in node.items():
        match item.value:
            case {"text": str(text), "logprob": float(own), "reference": float(other)} if (
                _is_finite(own) and _is_finite(other)
            ):
                found.append(Token(clean(text), own, other))
            case _:
                other = item.get("reference", None).maybe()
                found.append(Token(item["text"].text(), item["logprob"].maybe(), other))
    return tuple(found)


def _owner(node: Node) -> ExposedOwner:
    return ExposedOwner(
        node["owner"].text(),
        node["records"].count(),
        node["score"].number(),
        node["percentile"].share(),
    )


def _extraction(node: Node) -> Extraction:
    return Extraction(
        id=node["id"].text(),
        owner=node.get("owner", "").text(),
        prefix=node["prefix"].text(),
        truth=node["truth"].text(),
        generated=node["generated"].text(),
        matched=node["matched"].count(),
        total=node["total"].count(),
    )


def _trace_entry(node: Node) -> dict[str, float]:
    """The finite numbers of one logged step: a loss that ran away is left out, not an error."""
    entry = {}
    for key in ("step", "epoch", "loss", "lr"):
        value = node.get(key, None).value
        if _is_finite(value):
            entry[key] = float(value)  # type: ignore[arg-type]
    return entry


def _observation(node: Node) -> Observation:
    return Observation(node["epoch"].number(), node["kept"].flag(), findings_of(node["findings"]))


def _outcomes(node: Node) -> dict[str, int]:
    return {name: Node(n, f"{node.where}: {name}").count() for name, n in node.mapping().items()}


def _story(node: Node) -> StoryDocument:
    leak, comparison = node.get("leak", None), node.get("comparison", {})
    costs = node.get("costs", None)
    columns = comparison.get("columns", []).texts()
    rows = comparison.get("rows", []).items()
    return StoryDocument(
        engram=node["engram"].text(),
        id=node["id"].text(),
        created=node["created"].text(),
        seconds=node.get("seconds", 0).number(),
        title=node["title"].text(),
        lead=node["lead"].text(),
        verdict=verdict_of(node["verdict"]),
        leak=_leak(leak) if leak.value else None,
        columns=columns,
        rows=tuple(_comparison_row(row, len(columns)) for row in rows),
        steps=tuple(
            Step(step["title"].text(), step["text"].text())
            for step in node.get("steps", []).items()
        ),
        audits=tuple(_story_audit(item) for item in node.get("audits", []).items()),
        costs=Costs.of(costs) if costs.value else None,
    )


def _story_audit(node: Node) -> StoryAudit:
    document = node["document"]
    if document["kind"].value != "audit":
        raise document["kind"].wrong("'audit'")
    return StoryAudit(node["title"].text(), _audit(document))


def _leak(node: Node) -> Leak:
    return Leak(
        owner=node["owner"].text(),
        field=node.get("field", "").text(),
        prefix=node["prefix"].text(),
        truth=node["truth"].text(),
        outputs=tuple(
            LeakOutput(
                model=item["model"].text(),
                text=item["text"].text(),
                matched=item["matched"].count(),
                total=item["total"].count(),
                exact=item["exact"].flag(),
            )
            for item in node["outputs"].items()
        ),
    )


def _comparison_row(node: Node, columns: int) -> ComparisonRow:
    cells = findings_of(node["cells"])
    if len(cells) != columns:
        raise node["cells"].wrong(f"{columns} findings, one for each column")
    better = node.get("better", "").choice(get_args(Better))
    unit = node.get("unit", "").text()
    return ComparisonRow(node["name"].text(), unit, better, cells)  # type: ignore[arg-type]

"""What many tests share: tiny splits, tiny targets, and a slow, plain and exact `Run`."""

import json
import os

# Tiny models gain nothing from threads, and on a busy machine lose thirtyfold by waiting for
# each other. Read when torch is imported, here and in processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from engram.core import Lineage, Shadows, Split, Target, TokenSignals, stream

# Tests run beside each other, and a core may be busy: an example has no deadline.
settings.register_profile("engram", deadline=None)
settings.load_profile("engram")

TEXTS = (
    "Patient Mara Quill, born 3 May 1961, was seen on Tuesday for chest pain. No fever.",
    "The river was low that SUMMER, and the boats lay on the sand like fish.",
    "Dear Dr Ferro, thank you for referring Mr Abel Stone. His blood pressure was 182/95.",
    "no capitals here at all, only a line of quiet words that goes on and on",
    "one two three four five six seven eight nine ten eleven twelve " * 5,
    "Invoice 20-4417: 3 boxes of gauze, 12 rolls of tape, 1 pair of scissors; paid in full.",
    "A short one.",
    "Größe und Gewicht: 1,82 m, 84 kg. Naïve café résumé - déjà vu. 日本語も少し。",
    "She said that the letter had never come, and that she had waited by the gate since noon. "
    "When it came at last it was for somebody else, as letters often were in that long street, "
    "and she gave it back to the postman without a word and went in and shut the blue door. "
    "After that nobody in the street asked her about letters again, not even at Christmas.",
    "aaaa aaaa aaaa aaaa aaaa aaaa aaaa aaaa",
)
OWNERS = tuple(f"owner-{i // 2}" for i in range(len(TEXTS)))
CONTEXT = 192


@pytest.fixture
def split() -> Split:
    """Ten texts of five owners: long, short, repetitive, accented, without capitals."""
    return Split.of("texts", text=TEXTS, owners=OWNERS)


@pytest.fixture
def arrays() -> Split:
    """Records of a classifier: four numbers and one of three classes each."""
    rng = np.random.default_rng(7)
    features = rng.normal(size=(12, 4)).astype(np.float32)
    return Split.of("arrays", features=features, label=rng.integers(0, 3, 12))


@dataclass(frozen=True, eq=False)
class SlowRun:
    """Answers every question the plain way: one record at a time, in float64, nothing stored.

    `asked` records which answers were asked for, and `others` holds the targets that can be
    named.
    """

    scratch: Path
    seed: int = 0
    device: str = "cpu"
    others: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def stream(self, *path):
        return stream(self.seed, *path)

    def tokens(self, target, split):
        self.asked.append("tokens")
        return slow_tokens(target.model, split)

    def losses(self, target, split):
        self.asked.append("losses")
        if target.family == "causal-lm":
            return slow_tokens(target.model, split).losses()
        return slow_losses(slow_logits(target, split), split.matrix("label"))

    def logits(self, target, split):
        self.asked.append("logits")
        return slow_logits(target, split)

    def computed(self, name, target, split, settings, work):
        json.dumps(settings, allow_nan=False)
        answer = np.asarray(work())
        assert answer.shape[:1] == (len(split),)
        return answer

    def fit(self, recipe, split, *path):
        raise AssertionError("no test of these trains a model")

    def shadows(self, target, split, count, share=0.5):
        """Models that nobody trained, and memberships by lot."""
        from engram.parts.partition import choose

        saw = np.array([choose(split, share, self.stream("shadow", k)) for k in range(count)])
        if share == 0.5:
            saw[1::2] = ~saw[: len(saw[1::2]) * 2 : 2]
        models = [
            replace(
                target,
                name=f"shadow {k}",
                fingerprint=f"shadow-{k}",
                lineage=Lineage(),
                model=shadow_model(target, k),
            )
            for k in range(count)
        ]
        return Shadows(models, saw)

    def retrained(self, target, splits, name):
        """Models that nobody trained."""
        return [
            replace(
                target, fingerprint=f"{name} {k}", lineage=Lineage(), model=shadow_model(target, k)
            )
            for k in range(len(splits))
        ]

    def sampler(self, target, temperature=1.0):
        # The engine's own: tests/unit/test_writing.py holds it against the slow way.
        from engram.parts.writing import Writer

        self.asked.append("text")
        lm = target.model
        return Writer(lm.model, lm.tokenizer, CONTEXT, temperature)

    def records(self, where, target=None):
        return self.others[where]

    def target(self, where):
        return self.others[where]

    def log(self, **entry):
        pass

    def progress(self, done, total, what):
        assert 0 <= done <= total, what


def shadow_model(target, number):
    """A random model of the target's family; a classifier's depends on its fingerprint alone."""
    if target.family != "causal-lm":
        return target.model
    lm = target.model
    network = tiny_network(100 + number, len(lm.tokenizer))
    return type(lm)(network, lm.tokenizer)


def whole_logprobs(lm, text):
    """Token numbers (T,) and log p(v | x_<t) for t = 1 .. T-1, (T - 1, vocabulary), float64."""
    import torch

    ids = lm.tokenizer(text)["input_ids"]
    if len(ids) < 2:
        return np.array(ids, np.int64), np.zeros((0, len(lm.tokenizer)))
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids])).logits[0].double()
    return np.array(ids), torch.log_softmax(logits, dim=-1)[:-1].numpy()


def slow_tokens(lm, split):
    """Token signals by definition, from the whole distribution at every token."""
    names = ("token", "logprob", "mean", "deviation", "rank", "greedy")
    pieces = [slow_record(lm, text) for text in split.texts]
    offsets = np.cumsum([0, *(len(piece["token"]) for piece in pieces)], dtype=np.int64)
    columns = {
        name: np.concatenate([piece[name] for piece in [slow_record(lm, ""), *pieces]])
        for name in names
    }
    return TokenSignals(split.ids, offsets, **columns)


def slow_record(lm, text):
    ids, table = whole_logprobs(lm, text)
    true = ids[1:]
    own = table[np.arange(len(true)), true]
    mean = np.sum(np.exp(table) * table, axis=1)
    variance = np.sum(np.exp(table) * (table - mean[:, None]) ** 2, axis=1)
    return {
        "token": true,
        "logprob": own,
        "mean": mean,
        "deviation": np.sqrt(variance),
        "rank": np.sum(table > own[:, None], axis=1),
        "greedy": table.argmax(axis=1) == true,
    }


def slow_logits(target, split):
    """Logits of a linear classifier whose weights are the target's fingerprint's."""
    weights = stream(0, target.fingerprint).normal(size=(4, 3))
    return np.array([row.astype(np.float64) @ weights for row in split.matrix("features")])


def slow_losses(logits, labels):
    return np.array(
        [np.log(np.exp(row).sum()) - row[label] for row, label in zip(logits, labels, strict=True)]
    )


def tiny_network(seed, vocabulary, spread=0.3):
    """A random GPT-2 of two layers in float64; `spread` makes its predictions uneven."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from engram.core import torch_seeded

    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=spread,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch_seeded(seed, "tests"):
        return GPT2LMHeadModel(config).double().eval()


@pytest.fixture(scope="session")
def make_lm():
    """A function: seed -> a tiny random language model; all of them share one tokenizer."""
    from engram.families.causal_lm import LanguageModel, byte_tokenizer

    tokenizer = byte_tokenizer(TEXTS, 400, CONTEXT)
    return lambda seed: LanguageModel(tiny_network(seed, len(tokenizer)), tokenizer)


@pytest.fixture(scope="session")
def lms(make_lm):
    """Two tiny random language models with one tokenizer: a target's and its base's."""
    return make_lm(1), make_lm(2)


@pytest.fixture(scope="session")
def by_heart(make_lm):
    """A target that learnt twelve notes by heart, those notes, and twelve others like them."""
    import torch

    lm, texts = make_lm(3), notes(24)
    members, outsiders = Split.of("members", text=texts[::2]), Split.of("others", text=texts[1::2])
    batches = [torch.tensor([lm.tokenizer(text)["input_ids"]]) for text in members.texts]
    optimiser = torch.optim.Adam(lm.model.parameters(), lr=5e-3)
    for _ in range(25):
        for ids in batches:
            optimiser.zero_grad()
            lm.model(ids, labels=ids).loss.backward()
            optimiser.step()
    lm.model.eval()
    target = Target("by heart", "causal-lm", lm, "by-heart", lineage=Lineage(base="base"))
    return target, members, outsiders


def notes(n):
    """Short notes of one pattern, all different."""
    rng = stream(0, "notes")
    people = ("Mara Quill", "Abel Stone", "Ida Fenwick", "Jon Ferro", "Ruth Larch", "Otto Vane")
    things = ("chest pain", "a dry cough", "a broken wrist", "poor sleep", "a rash", "Fever")
    return [
        f"{rng.choice(people)} was seen on {rng.integers(1, 29)} May {rng.integers(1990, 2020)} "
        f"for {rng.choice(things)}; Blood pressure {rng.integers(100, 190)}/"
        f"{rng.integers(60, 99)}, note {i}."
        for i in range(n)
    ]


@pytest.fixture
def target(lms) -> Target:
    """A language model whose lineage names the base "base"; nobody knows who trained it."""
    lineage = Lineage(method="finetune-lm", kind="recipes", base="base")
    return Target("tiny", "causal-lm", lms[0], "tiny-target", lineage=lineage)


@pytest.fixture
def base(lms) -> Target:
    """Another random model with the target's tokenizer."""
    return Target("tiny base", "causal-lm", lms[1], "tiny-base")


@pytest.fixture
def classifier() -> Target:
    """A linear classifier of arrays whose lineage names the base "base classifier"."""
    lineage = Lineage(base="base classifier")
    return Target("linear", "classifier", linear_model("linear"), "linear", lineage=lineage)


def linear_model(fingerprint):
    """A network that computes what `slow_logits` does."""
    import torch

    from engram.families.classifier import ClassifierModel
    from engram.parts.networks import Layout

    network = Layout("mlp", (4,), 3).build()
    network.body = torch.nn.Linear(4, 3, bias=False)
    weights = stream(0, fingerprint).normal(size=(4, 3)).astype(np.float32)
    network.body.weight.data = torch.from_numpy(weights.T.copy())
    return ClassifierModel(network.eval())


@pytest.fixture
def run(tmp_path, base, classifier) -> SlowRun:
    """A slow and exact run that knows the two bases."""
    other = replace(classifier, name="linear base", fingerprint="linear-base", lineage=Lineage())
    return SlowRun(tmp_path, others={"base": base, "base classifier": other})


@pytest.fixture(scope="session")
def logprobs_of():
    """A function: (lm, text) -> token numbers and whole float64 log-probabilities."""
    return whole_logprobs


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data that ENGRAM_DATA names; without it the test is skipped."""
    where = os.environ.get("ENGRAM_DATA")
    if not where or not Path(where).is_dir():
        pytest.skip("ENGRAM_DATA names no folder of real data")
    return Path(where)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """Where tests in a browser keep screenshots: what ENGRAM_SCREENSHOTS names, if it does."""
    named = os.environ.get("ENGRAM_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder

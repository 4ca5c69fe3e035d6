"""Models that never saw the members: attacks alarm no more often than their intervals promise.

Scores are made once, for no attack sees who is called a member; then membership is drawn twenty
times by lot. An interval of 95 % leaves out 0.5 once in twenty draws; five times or more in
twenty have a chance of 0.3 %.
"""

from dataclasses import fields

import numpy as np
import pytest
from tests_engine import method

from engram import data, families, stats
from engram.catalog import entries
from engram.core import Split, stream
from engram.data.output import write
from engram.engine import EngineRun, train
from engram.engine.battery import unsuited
from engram.parts.partition import choose

FAMILIES = ("causal-lm", "masked-lm", "classifier", "estimator")
REPETITIONS, MOST_ALARMS = 20, 4
CHEAP = {
    "lira": {"shadows": 4},
    "rmia": {"shadows": 4},
    "neighbourhood": {"filler": "random", "neighbours": 3},
    "spv-mia": {"paraphraser": "random-tokens", "reference": "base", "paraphrases": 3},
    "label-only": {},
    "likelihood-ratio": {"draws": 5},
    "samia": {"samples": 1, "words": 12},
    "node-membership": {"shadows": 2},
}
"""Settings that make an attack quick; they do not bear on false alarms."""
REFERENCE = "reference"
OF_NODES = {"node-membership"}
OFFERED = {family: families.find(family).answers for family in FAMILIES}
SELF_PROMPT = {"prompt_count": 12, "length": 24, "epochs": 1, "paraphrases": 2}


def cases(family, offered):
    for name, entry in entries("attacks").items():
        if entry.address[:7] != "engram.":
            continue  # a plug-in answers for itself
        wanted = getattr(entry.load(), "families", {family})
        if entry.load().needs <= offered and family in wanted:
            yield name


def settings(name, population):
    """The cheap settings, and public records or a public model where the attack asks for one."""
    found = dict(CHEAP.get(name, {}))
    for key in ("population", "prefix"):
        if key in {f.name for f in fields(entries("attacks")[name].load())}:
            found[key] = str(population)
    other = population.parent / REFERENCE
    return {**found, "reference": str(other)} if name == REFERENCE and other.is_dir() else found


@pytest.fixture(scope="module")
def letters(store, tmp_path_factory):
    """Letters that the store's target never saw, and a file of others that nobody asks about."""
    folder = tmp_path_factory.mktemp("letters")
    pool = data.read("demo:letters?n=160&seed=91")
    write(data.read("demo:letters?n=70&seed=92"), folder / "others.jsonl")
    return store.target, pool, folder / "others.jsonl", store.run


def points(seed, n):
    """Records of two classes that noise makes hard to tell."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 6)).astype(np.float32)
    label = (features[:, 0] + rng.normal(size=n) > 0).astype(np.int64)
    return Split.of(f"points {seed}", features=features, label=label)


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """A classifier that learnt by heart other records than the pool's."""
    folder = tmp_path_factory.mktemp("arrays")

    run = EngineRun(root=folder / "runs")
    recipe = method("recipes", "train-classifier", width=24, epochs=15, learning_rate=5e-3)
    target = train(recipe, points(1, 80), run, source="", holdout=0.25)
    train(recipe, points(5, 80), run, source="", out=folder / REFERENCE)
    write(points(2, 150), folder / "others.parquet")
    return target, points(3, 160), folder / "others.parquet", run


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """A masked model tuned on other sentences than the pool's."""
    run = EngineRun(root=tmp_path_factory.mktemp("sentences"))

    def drawn(seed, n):
        found = data.read(f"demo:letters?n={n}&seed={seed}")
        return found.with_texts([text[60:115] for text in found.texts]).only(["text"])

    tiny = {"vocabulary": 300, "layers": 1, "width": 16, "heads": 2, "context": 64, "epochs": 1}
    base = train(method("recipes", "pretrain-mlm", **tiny), drawn(93, 40), run, source="")
    tune = method("recipes", "finetune-mlm", base=str(base.folder), epochs=4, learning_rate=5e-3)
    target = train(tune, drawn(94, 40), run, source="", holdout=0.25)
    write(drawn(95, 50), run.root / "others.jsonl")
    return target, drawn(96, 70), run.root / "others.jsonl", run


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A forest that learnt by heart other records than the pool's."""
    folder = tmp_path_factory.mktemp("trees")
    run = EngineRun(root=folder / "runs")
    recipe = method("recipes", "fit-estimator", estimator="random-forest")
    target = train(recipe, points(1, 80), run, source="", holdout=0.25)
    train(recipe, points(5, 80), run, source="", out=folder / REFERENCE)
    write(points(2, 150), folder / "others.parquet")
    return target, points(3, 160), folder / "others.parquet", run


def alarms(name, target, pool, population, run, **fields):
    """How often, of all repetitions, the interval of the AUC leaves out 0.5."""
    attack = method("attacks", name, **{**settings(name, population), **fields})
    assert not unsuited(attack, target)
    values = attack(target.sealed(), pool, run).values
    count = 0
    for number in range(REPETITIONS):
        is_member = choose(pool, 0.5, stream(17, "membership", number))
        rng = stream(17, "bootstrap", number)
        found = stats.auc(values, is_member, rng, owners=pool.owners)
        assert found.value is not None
        count += not found.low <= 0.5 <= found.high
    return count


@pytest.mark.parametrize("name", list(cases("causal-lm", OFFERED["causal-lm"])))
def test_language_model(name, letters):
    assert alarms(name, *letters) <= MOST_ALARMS


@pytest.mark.parametrize("name", list(cases("classifier", OFFERED["classifier"])))
def test_classifier(name, arrays):
    assert alarms(name, *arrays) <= MOST_ALARMS


def test_a_reference_that_the_model_taught_itself(letters):
    """SPV-MIA whole: the reference is tuned on what the target writes."""
    fields = {"reference": "self-prompt", **SELF_PROMPT}
    assert alarms("spv-mia", *letters, **fields) <= MOST_ALARMS


@pytest.mark.parametrize("name", list(cases("masked-lm", OFFERED["masked-lm"])))
def test_masked_model(name, sentences):
    assert alarms(name, *sentences) <= MOST_ALARMS


@pytest.mark.parametrize("name", list(cases("estimator", OFFERED["estimator"])))
def test_estimator(name, trees):
    assert alarms(name, *trees) <= MOST_ALARMS


def test_nodes(tmp_path_factory):
    """A graph network that learnt other nodes of the graph than those that are asked about."""
    pytest.importorskip("torch_geometric")
    run = EngineRun(root=tmp_path_factory.mktemp("nodes") / "runs")
    graph = data.read("demo:graph?n=240&communities=4")
    order = stream(3, "nodes").permutation(len(graph))
    recipe = method("recipes", "train-graph-nodes", epochs=30)
    target = train(recipe, graph.take(order[:90], "learnt"), run, source="", holdout=0.25)
    for name in OF_NODES:
        assert alarms(name, target, graph.take(order[90:], "pool"), run.root, run) <= MOST_ALARMS


def test_every_attack_is_in_one_of_these_tests():
    tested = {name for family, offered in OFFERED.items() for name in cases(family, offered)}
    tested |= OF_NODES
    assert tested == {n for n, e in entries("attacks").items() if e.address.startswith("engram.")}

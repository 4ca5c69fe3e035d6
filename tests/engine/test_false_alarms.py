"""Models that never saw the members: attacks alarm no more often than their intervals promise.

Scores are made once, for no attack sees who is called a member; then membership is drawn twenty
times by lot. An interval of 95 % leaves out 0.5 once in twenty draws; five times or more in
twenty have a chance of 0.3 %.
"""

from dataclasses import fields

import numpy as np
import pytest
from tests_engine import method

from engram import data, stats
from engram.catalog import entries
from engram.core import Split, stream
from engram.data.output import write
from engram.engine import EngineRun, train
from engram.engine.battery import unsuited
from engram.parts.partition import choose

REPETITIONS, MOST_ALARMS = 20, 4
CHEAP = {
    "lira": {"shadows": 4},
    "rmia": {"shadows": 4},
    "neighbourhood": {"filler": "random", "neighbours": 3},
    "spv-mia": {"paraphraser": "random-tokens", "reference": "base", "paraphrases": 3},
    "label-only": {},
}
"""Settings that make an attack quick; they do not bear on false alarms."""
ELSEWHERE = {"likelihood-ratio": "masked language models"}


def cases(family, offered):
    for name, entry in entries("attacks").items():
        if entry.address[:7] != "engram." or name in ELSEWHERE:
            continue  # a plug-in answers for itself
        wanted = getattr(entry.load(), "families", {family})
        if entry.load().needs <= offered and family in wanted:
            yield name


def settings(name, population):
    """The cheap settings, and a file of public records where the attack asks for one."""
    found = dict(CHEAP.get(name, {}))
    for key in ("population", "prefix"):
        if key in {f.name for f in fields(entries("attacks")[name].load())}:
            found[key] = str(population)
    return found


@pytest.fixture(scope="module")
def letters(store, tmp_path_factory):
    """Letters that the store's target never saw, and a file of others that nobody asks about."""
    folder = tmp_path_factory.mktemp("letters")
    pool = data.read("demo:letters?n=160&seed=91")
    write(data.read("demo:letters?n=70&seed=92"), folder / "others.jsonl")
    return store.target, pool, folder / "others.jsonl", store.run


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """A classifier that learnt by heart other records than the pool's."""
    folder = tmp_path_factory.mktemp("arrays")

    def drawn(seed, n):
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(n, 6)).astype(np.float32)
        label = (features[:, 0] + rng.normal(size=n) > 0).astype(np.int64)
        return Split.of(f"arrays {seed}", features=features, label=label)

    run = EngineRun(root=folder / "runs")
    recipe = method("recipes", "train-classifier", width=24, epochs=15, learning_rate=5e-3)
    target = train(recipe, drawn(1, 80), run, source="", holdout=0.25)
    write(drawn(2, 150), folder / "others.parquet")
    return target, drawn(3, 160), folder / "others.parquet", run


def alarms(name, target, pool, population, run):
    """How often, of all repetitions, the interval of the AUC leaves out 0.5."""
    attack = method("attacks", name, **settings(name, population))
    if reason := unsuited(attack, target):
        pytest.skip(f"{name}: {reason}")
    values = attack(target.sealed(), pool, run).values
    count = 0
    for number in range(REPETITIONS):
        is_member = choose(pool, 0.5, stream(17, "membership", number))
        rng = stream(17, "bootstrap", number)
        found = stats.auc(values, is_member, rng, owners=pool.owners)
        assert found.value is not None
        count += not found.low <= 0.5 <= found.high
    return count


@pytest.mark.parametrize("name", list(cases("causal-lm", {"tokens", "logprobs", "losses"})))
def test_language_model(name, letters):
    assert alarms(name, *letters) <= MOST_ALARMS


@pytest.mark.parametrize("name", list(cases("classifier", {"losses", "logits", "labels"})))
def test_classifier(name, arrays):
    assert alarms(name, *arrays) <= MOST_ALARMS

"""EUPG: the protected model stays, the brief part is done again, boosting goes on, targets last."""

from dataclasses import replace

import numpy as np
import pytest

from engram import catalog, data, families
from engram.core import EngramError, Split, stream
from engram.engine import EngineRun, edit, forget, known_records, load, to_forget, train
from engram.families.estimator import FAMILY as ESTIMATOR
from engram.families.estimator import EstimatorModel
from engram.parts.boosting import boosted, continued
from engram.parts.estimators import fitted
from engram.parts.labelled import features_of
from engram.parts.protected_training import ProtectedTraining

WINE = "sklearn:wine"
FEW = {"epochs": 6, "tune_epochs": 1, "width": 8, "layers": 1, "k": 5}
TREES = {"estimators": 4, "tune_estimators": 2, "k": 5}


def alone(scratch) -> EngineRun:
    """A run that begins with an empty folder."""
    return EngineRun(scratch=scratch)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network and trees, in a store of their own."""
    run = EngineRun(root=tmp_path_factory.mktemp("protected") / "runs")
    wine = data.read(WINE)
    return run, {
        "protected-classifier": train(method("recipes", "eupg", **FEW), wine, run, source=WINE),
        "protected-estimator": train(
            method("recipes", "eupg-boosting", **TREES), wine, run, source=WINE
        ),
    }


def method(kind, name, **fields):
    return catalog.find(kind, name).load()(**fields)


def rows(n, features=4, classes=3):
    rng = stream(0, "rows")
    label = np.arange(n) % classes
    table = (rng.normal(size=(n, features)) + label[:, None]).astype(np.float32)
    return Split.of("rows", features=table, label=label)


FAMILIES = ["protected-classifier", "protected-estimator"]


@pytest.mark.parametrize("family", FAMILIES)
def test_requests_add_up_and_the_protected_model_stays(made, family):
    run, targets = made
    target, adapter = targets[family], families.find(family)
    before = adapter.inner.fingerprint(target.model.protected)
    redo = method("edits", "eupg-redo")
    for rows_ in ([0, 1], [5]):
        known = known_records(target).trained
        gone = np.isin(np.arange(len(known)), rows_)
        given = target.fingerprint
        after = edit(redo, target, known.where(~gone), known.where(gone), run)
        assert after.fingerprint != given == adapter.fingerprint(target.model)
        assert adapter.inner.fingerprint(after.model.protected) == before
        again = load(after.folder)
        assert again.fingerprint == after.fingerprint
        assert again.lineage.guarantee["kind"] == "k"
        assert "saw the protected form" in again.lineage.guarantee["sentence"]
        assert not target.lineage.guarantee or target.lineage.kind == "edits"
        target = after
    assert len(known_records(target).trained) == len(known_records(targets[family]).trained) - 3
    # In one go it is the same: the second request did not begin where the first had ended.
    first = known_records(targets[family]).trained
    left = set(known_records(target).trained.ids)
    kept = np.array([i in left for i in first.ids])
    once = edit(redo, targets[family], first.where(kept), first.where(~kept), run)
    assert once.fingerprint == target.fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_a_forgotten_record_is_left(made, family):
    run, targets = made
    known = known_records(targets[family])
    records = to_forget(targets[family], known, ids=tuple(known.trained.ids[:3]))
    out = run.root.parent / f"forgotten-{family}"
    redo = method("edits", "eupg-redo")
    done = forget(targets[family], known, records, redo, run, battery="quick", out=out)
    words = [w.encode() for w in (*records.ids, *records.digests)]
    values = [row.tobytes() for row in records.matrix("features")]
    left = [path for path in done.target.folder.rglob("*") if path.is_file()]
    names = {path.relative_to(done.target.folder).as_posix() for path in left}
    assert {"protected/model.safetensors", "deployed/model.safetensors"} <= names
    for path in left:
        raw = path.read_bytes()
        assert not any(word in raw for word in (*words, *values)), path.name


def test_what_was_forgotten_is_not_learnt_again(made):
    run, targets = made
    target = targets["protected-classifier"]
    known = known_records(target).trained
    redo = method("edits", "eupg-redo")
    after = edit(redo, target, known.take(range(2, len(known))), known.take([0, 1]), run)
    with pytest.raises(EngramError, match="has forgotten it"):
        redo(after, known.take([0, 5, 6]), known.take([7]), run)


def test_fine_tuning_is_that_of_a_run_that_never_had_the_record(tmp_path):
    """Given the protected network, bit by bit; and with a new optimiser each time."""
    records, training = rows(40), ProtectedTraining(**FEW)
    protected, *_ = training.pretrain(records, alone(tmp_path / "a"))
    kept = records.take(range(3, 40))
    family = families.find("classifier")
    prints = []
    for place in ("b", "c"):
        network, trace = training.tune(protected, kept, alone(tmp_path / place), 0)
        prints.append(family.fingerprint(families.classifier.ClassifierModel(network)))
        assert trace[-1]["step"] + 1 == -(-len(kept) // training.batch_size)
    assert len(set(prints)) == 1
    np.testing.assert_array_equal(
        protected.mean.numpy(), training.pretrain(records, alone(tmp_path / "d"))[0].mean.numpy()
    )


def test_the_long_part_sees_protected_records_alone(tmp_path):
    """Two tables with the same protected form give the same protected network."""
    records = rows(20)
    training = ProtectedTraining(**{**FEW, "k": 20})
    turned = Split.of("turned", features=-records.matrix("features"), label=records.matrix("label"))
    shift = 2 * features_of(records).mean(0)
    mirrored = Split.of("m", features=features_of(turned) + shift, label=records.matrix("label"))
    found = [
        training.pretrain(each, alone(tmp_path / str(i)))[0].mean.numpy()
        for i, each in enumerate((records, mirrored))
    ]
    np.testing.assert_allclose(*found, atol=1e-6)


def three_columns(classes):
    labels = np.arange(90) % classes
    features = stream(0, "boosting").normal(size=(90, 3)) + labels[:, None]
    return features.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_without_shrinkage_it_is_scikit_learns(classes):
    """From its own `init` where it goes on, with the same answers from arrays alone."""
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.frozen import FrozenEstimator

    features, labels = three_columns(classes)
    settings = {"n_estimators": 5, "max_depth": 2, "learning_rate": 0.5, "min_samples_leaf": 1}
    bare = {**settings, "shrinkage": 0}
    plain = GradientBoostingClassifier(**settings, random_state=3).fit(features, labels)
    arrays, warned = fitted("newton-boosting", bare, features, labels, 3)
    assert not warned
    for name, given in (("newton-boosting", bare), ("gradient-boosting", settings)):
        found, _ = fitted(name, given, features, labels, 3)
        np.testing.assert_allclose(boosted(found, features), plain.predict_proba(features))
    more = continued(arrays, bare, features[:60], labels[:60], 4)
    onward = GradientBoostingClassifier(**settings, init=FrozenEstimator(plain), random_state=4)
    onward.fit(features[:60], labels[:60])
    np.testing.assert_allclose(
        boosted(more, features), onward.predict_proba(features), rtol=1e-9, atol=1e-12
    )
    assert len(more["root"]) == 2 * len(arrays["root"])
    EstimatorModel("newton-boosting", more, 3, bare)


@pytest.mark.parametrize("classes", [2, 3])
def test_leaves_have_the_values_of_the_formula(classes):
    """One round of stumps, leaf by leaf, from the words of the module."""
    features, labels = three_columns(classes)
    settings = {"n_estimators": 1, "max_depth": 1, "learning_rate": 0.5, "shrinkage": 2.0}
    arrays, _ = fitted("newton-boosting", settings, features, labels, 3)
    trees = 1 if classes == 2 else classes
    part = 0.5 if classes == 2 else 0.5 * (classes - 1) / classes
    for tree, root in enumerate(arrays["root"]):
        column, bound = arrays["feature"][root], arrays["threshold"][root]
        of = 1 if trees == 1 else tree
        p = np.mean(labels == of)
        for side, inside in (("left", features[:, column] <= bound),
                             ("right", features[:, column] > bound)):  # fmt: skip
            y = (labels[inside] == of).astype(float)
            wanted = part * (y - p).sum() / (2.0 + len(y) * p * (1 - p))
            assert arrays["value"][arrays[side][root], 0] == pytest.approx(wanted, rel=1e-9)


def test_shrunk_leaves_do_not_leap_where_the_trees_before_were_sure_and_wrong():
    features = np.arange(12.0, dtype=np.float32)[:, None]
    labels = (features[:, 0] >= 6).astype(int)
    few = {"n_estimators": 30, "max_depth": 1, "learning_rate": 0.5}
    changed = labels.copy()
    changed[3] = 1
    steps = {}
    for shrinkage in (0.0, 1.0):
        given = {**few, "shrinkage": shrinkage}
        arrays, _ = fitted("newton-boosting", given, features, labels, 0)
        more = continued(arrays, {**given, "n_estimators": 1}, features, changed, 0)
        steps[shrinkage] = np.abs(more["value"][len(arrays["value"]) :]).max()
    assert steps[0.0] > 1000 > 1 > steps[1.0] > 0


def test_the_last_record_of_a_class_may_leave():
    features, labels = np.arange(12.0)[:, None], np.array([0] * 6 + [1] * 5 + [2])
    settings = {"n_estimators": 2, "max_depth": 1, "shrinkage": 0.0}
    arrays, _ = fitted("newton-boosting", settings, features, labels, 0)
    found = continued(arrays, settings, features[:11], labels[:11], 0)
    shares = boosted(found, features)
    assert shares.shape == (12, 3)
    assert (shares.argmax(1)[:11] == labels[:11]).all()
    with pytest.raises(EngramError, match="of one class"):
        continued(arrays, settings, features[:6], labels[:6], 0)
    with pytest.raises(EngramError, match="label 7"):
        continued(arrays, settings, features[:2], np.array([0, 7]), 0)


def test_damaged_boosting_is_refused():
    features, labels = np.arange(8.0)[:, None], np.array([0, 1] * 4)
    arrays, _ = fitted("gradient-boosting", {"n_estimators": 2}, features, labels, 0)
    three, _ = fitted("newton-boosting", {"n_estimators": 1}, features, np.arange(8) % 3, 0)
    with pytest.raises(EngramError, match="2 trees for 3 scores"):
        EstimatorModel("newton-boosting", {**three, "root": three["root"][:2]}, 1, {})
    with pytest.raises(EngramError, match="prior of shape"):
        EstimatorModel("gradient-boosting", {**arrays, "prior": np.zeros(2)}, 1, {})


def test_damaged_folders_are_refused(made, tmp_path):
    _, targets = made
    family = families.find("protected-classifier")
    with pytest.raises(EngramError, match="holds no protected model"):
        family.load(tmp_path)
    family.save(targets["protected-classifier"].model, tmp_path)
    with pytest.raises(EngramError, match="does not describe a protected estimator"):
        families.find("protected-estimator").load(tmp_path)
    target = targets["protected-classifier"]
    bare = replace(target, lineage=replace(target.lineage, config={}, history=()))
    known, redo = known_records(target).trained, method("edits", "eupg-redo")
    with pytest.raises(EngramError, match="does not carry the recipe"):
        redo(bare, known.take(range(5, 20)), known.take([0]), alone(tmp_path))


def test_boosted_trees_answer_as_an_estimator(made):
    target = made[1]["protected-estimator"]
    wine = known_records(target).held_out
    family = families.find("protected-estimator")
    np.testing.assert_array_equal(
        family.logits(target.model, wine), ESTIMATOR.logits(target.model.deployed, wine)
    )
    assert family.describe(target.model)["stored models"] == 2

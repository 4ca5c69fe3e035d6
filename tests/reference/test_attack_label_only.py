"""`label-only` against a loop over copies, and by hand on a threshold classifier."""

from dataclasses import dataclass

import numpy as np
import pytest

from engram.core import EngramError, Split, Target
from engram.engine.run import EngineRun
from engram.methods.attacks.label_only import LabelOnly, labels_of_answers, scored
from engram.methods.recipes.fit_estimator import FitEstimator
from engram.stats import auc


@dataclass(frozen=True)
class Borders:
    """A run whose classifier says 1 where the first feature is above 0; all it says is recorded."""

    run: object
    asked: list
    warp: float = 1.0

    def logits(self, target, split):
        self.asked.append(split)
        above = split.matrix()[:, 0] > 0
        return self.warp * np.where(above[:, None], [-1.0, 2.0], [3.0, 0.5])

    def __getattr__(self, name):
        return getattr(self.run, name)


@pytest.fixture
def borders(run):
    return Borders(run, [])


@pytest.fixture
def line():
    """Records at -2, -0.5, 0.1 and 2.4 of one feature, and a second one that says nothing."""
    x = np.array([-2.0, -0.5, 0.1, 2.4])
    features = np.column_stack([x, [1.0, 2, 3, 4]]).astype(np.float32)
    return Split.of("line", features=features, label=np.array([0, 1, 1, 1]))


def test_agrees_with_a_loop_over_copies(classifier, arrays, run):
    found = LabelOnly(queries=3, strengths=(0.2, 1.0))(classifier, arrays, run).values
    features, labels = arrays.matrix().astype(np.float64), arrays.matrix("label")
    spread = [np.sqrt(np.mean((c - c.mean()) ** 2)) for c in features.T]

    def predicted(rows):
        asked = Split.of("asked", features=np.array(rows, np.float32), label=[0] * len(rows))
        return run.logits(classifier, asked).argmax(axis=1)

    for row in range(len(arrays)):
        rng = run.stream("label-only", arrays.ids[row])
        copies = []
        for strength in (0.2, 0.2, 0.2, 1.0, 1.0, 1.0):
            drawn = rng.normal(size=4)
            copies.append([x + strength * s * z for x, s, z in
                           zip(features[row], spread, drawn, strict=True)])  # fmt: skip
        share = np.mean(predicted(copies) == labels[row])
        own = predicted([features[row]])[0] == labels[row]
        assert found[row] == pytest.approx(share if own else share - 2)


def test_far_from_the_border_is_safer_and_a_wrong_label_is_below_all(classifier, line, borders):
    method = LabelOnly(queries=400, strengths=(0.5,))
    values = method(classifier, line, borders).values
    # The distance to the border in units of the noise, and the normal distribution there.
    from scipy.stats import norm

    spread = line.matrix()[:, 0].astype(np.float64).std()
    expected = norm.cdf(np.array([2.0, -0.5, 0.1, 2.4]) / (0.5 * spread))
    np.testing.assert_allclose(values, expected - [0, 2, 0, 0], atol=0.08)
    assert values.argmin() == 1
    assert -2 <= values[1] <= -1


def test_sees_nothing_but_labels(classifier, line, run):
    # Confidences a thousand times larger change nothing, for none of them is looked at.
    one = LabelOnly()(classifier, line, Borders(run, [], 1.0)).values
    other = LabelOnly()(classifier, line, Borders(run, [], 1000.0)).values
    np.testing.assert_array_equal(one, other)


def test_asks_once_for_all_copies(classifier, line, borders):
    LabelOnly(queries=7, strengths=(0.1, 0.2))(classifier, line, borders)
    assert [len(split) for split in borders.asked] == [4, 4 * 14]
    assert len(set(borders.asked[1].ids)) == 56


def test_draws_do_not_depend_on_company_where_a_population_gives_the_spread(
    classifier, line, borders
):
    rng = np.random.default_rng(3)
    borders.others["public"] = Split.of(
        "public", features=rng.normal(size=(30, 2)).astype(np.float32), label=[0] * 30
    )
    method = LabelOnly(population="public")
    everything = method(classifier, line, borders).values
    alone = method(classifier, line.take([2]), borders).values
    np.testing.assert_array_equal(alone, everything[[2]])


def test_scored_by_hand():
    own = np.array([True, False, True, False])
    np.testing.assert_allclose(scored(own, np.array([0.0, 1.0, 0.5, 0.0])), [0, -1, 0.5, -2])


def test_catches_the_members_of_a_tree_that_fits_noise(tmp_path):
    # Labels need not be 0, 1, 2, ...: the estimator's own classes are looked up.
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3)).astype(np.float32)
    labels = np.where(features[:, 0] + rng.normal(size=400) > 0, 7, 3)
    both = Split.of("both", features=features, label=labels)
    run = EngineRun(root=tmp_path, scratch=tmp_path)
    model = FitEstimator("decision-tree")(both.take(range(200)), run).model
    target = Target("tree", "estimator", model, "tree")
    said, known = labels_of_answers(target, both.take(range(200)), run)
    np.testing.assert_array_equal(known, [3, 7])
    np.testing.assert_array_equal(said, labels[:200])
    values = LabelOnly(queries=10, strengths=(0.05, 0.1))(target, both, run).values
    assert auc(values, np.arange(400) < 200, rng, resamples=50).low > 0.54
    strange = Split.of("strange", features=features[:2], label=[3, 4])
    with pytest.raises(EngramError, match="label 4, but target 'tree' knows only 3, 7"):
        LabelOnly()(target, strange, run)


def test_no_records_give_no_scores(classifier, line, borders):
    assert LabelOnly()(classifier, line.take([]), borders).values.shape == (0,)


def test_one_record_alone_gets_noise_of_scale_one(classifier, line, borders):
    values = LabelOnly(queries=200, strengths=(1.0,))(classifier, line.take([2]), borders).values
    assert values[0] == pytest.approx(0.54, abs=0.12)


def test_refuses(classifier, line, borders, split):
    same = Split.of("same", features=np.ones((2, 2), np.float32), label=[0, 1])
    with pytest.raises(EngramError, match="no feature varies"):
        LabelOnly()(classifier, same, borders)
    odd = Split.of("odd", features=line.matrix(), label=[0, 1, 1, 5])
    with pytest.raises(EngramError, match="has the label 5"):
        LabelOnly()(classifier, odd, borders)
    with pytest.raises(EngramError, match="more than fit into memory") as caught:
        LabelOnly(queries=2**25)(classifier, line, borders)
    assert "8388608 queries" in caught.value.hint
    borders.others["same"] = line
    with pytest.raises(EngramError, match="overlaps the members"):
        LabelOnly(population="same")(classifier, line, borders)
    wide = Split.of("wide", features=np.eye(3, dtype=np.float32), label=[0, 1, 1])
    borders.others["wide"] = wide
    with pytest.raises(EngramError, match="have 3 features"):
        LabelOnly(population="wide")(classifier, line, borders)


def test_refuses_a_language_model(target, split, tmp_path):
    run = EngineRun(root=tmp_path, scratch=tmp_path)
    with pytest.raises(EngramError, match="has no class logits"):
        LabelOnly()(target, split, run)


@pytest.mark.parametrize(
    "fields",
    [{"queries": 0}, {"strengths": ()}, {"strengths": (0.1, 0.0)}, {"strengths": (float("nan"),)}],
)
def test_refuses_fields(fields):
    with pytest.raises(EngramError, match=next(iter(fields))):
        LabelOnly(**fields)

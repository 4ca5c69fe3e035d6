"""`quantile-regression` on scores whose law is known, and by hand for its parts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from engram.core import EngramError, Lineage, Split, Target
from engram.families.classifier import ClassifierModel
from engram.methods.attacks.quantile_regression import QuantileRegression
from engram.methods.attacks.quantile_regression.features import RecordFeatures, text_features
from engram.methods.attacks.quantile_regression.regressions import gaussian, quantiles
from engram.parts.networks import Layout
from engram.stats import auc

SHIFT = 2.0
"""How much surer of members the made-up target is, in units of each record's own spread."""


def law(features):
    """Mean and spread of the confidence in a non-member with these features."""
    return 4 * features[:, 0], np.exp(features[:, 1])


def made(n, seed, member=False):
    """Records, and the losses of a target whose confidence follows the law."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (n, 3)).astype(np.float32)
    mean, spread = law(features.astype(np.float64))
    phi = mean + spread * (rng.normal(size=n) + SHIFT * member)
    return Split.of(f"made {seed}", features=features, label=rng.integers(0, 3, n)), phi


@dataclass(frozen=True)
class Known:
    """A run in which the losses of records are written down."""

    run: object
    losses_of: dict

    def losses(self, target, split):
        phi = np.array([self.losses_of[i] for i in split.ids])
        return np.logaddexp(0, -phi)  # phi = log(p / (1 - p)) of p = exp(-loss)

    def __getattr__(self, name):
        return getattr(self.run, name)


@pytest.fixture
def victim():
    network = Layout("mlp", (3,), 3, 4, 1).build()
    return Target("made up", "classifier", ClassifierModel(network), "made-up")


@pytest.fixture
def known(run):
    """The population, members and outsiders, and a run that knows their losses."""
    population, members, outsiders = made(1500, 1), made(300, 2, True), made(300, 3)
    losses = {}
    for split, phi in (population, members, outsiders):
        losses |= dict(zip(split.ids, phi.tolist(), strict=True))
    run.others["public"] = population[0]
    return Known(run, losses), members, outsiders


@pytest.mark.parametrize(("regression", "likeness"), [("gaussian", 0.9), ("quantile", 0.8)])
def test_finds_each_records_own_threshold(victim, known, regression, likeness):
    run, (members, high), (outsiders, low) = known
    method = QuantileRegression("public", regression=regression)
    one, other = (method(victim, side, run).values for side in (members, outsiders))
    # Where the law is known, the best score is the z-score under it.
    for side, phi, found in ((members, high, one), (outsiders, low, other)):
        mean, spread = law(side.matrix().astype(np.float64))
        assert np.corrcoef(found, (phi - mean) / spread)[0, 1] > likeness
    is_member = np.arange(600) < 300
    rng = np.random.default_rng(0)
    area = auc(np.concatenate([one, other]), is_member, rng, resamples=100).value
    plain = auc(np.concatenate([high, low]), is_member, rng, resamples=100).value
    assert area > plain + 0.08
    # Phi(SHIFT / sqrt(2)) = 0.921 is what the law itself allows.
    assert area > 0.88
    # The score is a z-score whatever the record: also where confidences hardly vary.
    steep = outsiders.matrix()[:, 1] > 0
    for part in (steep, ~steep):
        assert abs(other[part].mean()) < 0.25
        assert 0.75 < other[part].std() < 1.3


def test_does_not_depend_on_company_or_order(victim, known):
    run, (members, _), _ = known
    method = QuantileRegression("public")
    everything = method(victim, members, run).values
    alone = method(victim, members.take([7, 3]), run).values
    np.testing.assert_allclose(alone, everything[[7, 3]], rtol=1e-9)
    np.testing.assert_array_equal(method(victim, members, run).values, everything)
    assert method(victim, members.take([]), run).values.shape == (0,)


def test_gaussian_agrees_with_weighted_ridge_by_hand():
    # With nothing to tell records apart by: the mean of all, and the root mean square error of
    # means that left a fifth out.
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, 100)
    middle, spread = gaussian(np.zeros((100, 1)), values, np.random.default_rng(5))(np.ones((2, 1)))
    np.testing.assert_allclose(middle, values.mean())
    fold = np.random.default_rng(5).permutation(100) % 5
    errors = [values[i] - values[fold != fold[i]].mean() for i in range(100)]
    np.testing.assert_allclose(spread, np.sqrt(np.mean(np.square(errors))), rtol=0.02)


def test_quantiles_cover_what_they_say():
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (3000, 2))
    mean, spread = 3 * rows[:, 0], np.where(rows[:, 1] > 0, 3.0, 0.3)
    values = mean + spread * rng.normal(size=3000)
    middle, width = quantiles(rows[:2000], values[:2000], rng)(rows[2000:])
    inside = np.abs(values[2000:] - middle) < width
    for part in (rows[2000:, 1] > 0, rows[2000:, 1] <= 0):
        assert inside[part].mean() == pytest.approx(0.683, abs=0.1)


def test_constant_values_have_a_spread_above_zero():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    for learn in (gaussian, quantiles):
        middle, spread = learn(rows, np.full(60, 1.5), np.random.default_rng(0))(rows[:3])
        np.testing.assert_allclose(middle, 1.5)
        assert (spread > 0).all()


def test_text_features_by_hand():
    rows = text_features(["Dr A1, 2!", ""])
    assert rows.shape[1] == 6 + 128
    np.testing.assert_allclose(rows[0, :2], [np.log(10), np.log(4)])
    np.testing.assert_allclose(rows[0, 3:6], [2 / 9, 2 / 9, 2 / 9])
    assert np.count_nonzero(rows[0, 6:]) == 3
    np.testing.assert_array_equal(rows[1], [0, 0, 8, *[0] * 131])
    assert np.isfinite(text_features(["\ud800 lone surrogate", "x" * 100_000])).all()
    assert text_features([]).shape == (0, 134)


def test_features_of_labelled_records_know_only_the_classes_of_the_population():
    one = Split.of("a", features=np.eye(3, dtype=np.float32), label=np.array([0, 4, 4]))
    other = Split.of("b", features=np.ones((1, 3), np.float32), label=np.array([2]))
    kind = RecordFeatures.like(one)
    np.testing.assert_array_equal(kind.of(one)[1], [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(kind.of(other)[0], [1, 1, 1, 0, 0])


def letters(n, seed=9):
    rng = np.random.default_rng(seed)
    things = ("a sore knee", "bad dreams", "a burnt hand", "no appetite", "a stiff neck")
    return [
        f"Someone was seen on {rng.integers(1, 29)} June for {rng.choice(things)}; Blood pressure "
        f"{rng.integers(100, 190)}/{rng.integers(60, 99)}, note {i}."
        for i in range(n)
    ]


def test_members_of_a_model_that_knows_them_score_higher(by_heart, run):
    knows, members, outsiders = by_heart
    run.others["letters"] = Split.of("letters", text=letters(50))
    method = QuantileRegression("letters")
    high, low = (method(knows, side, run).values for side in (members, outsiders))
    assert np.mean(high[:, None] > low[None, :]) > 0.9


def test_the_bases_loss_is_a_feature_where_there_is_a_base(target, split, run):
    run.others["letters"] = Split.of("letters", text=letters(50))
    short = split.take([0, 3, 6])
    with_base = QuantileRegression("letters")(target, short, run).values
    named = QuantileRegression("letters", reference="base")(target, short, run).values
    np.testing.assert_array_equal(named, with_base)
    without = QuantileRegression("letters", reference="none")(target, short, run).values
    baseless = replace(target, lineage=Lineage())
    np.testing.assert_array_equal(
        QuantileRegression("letters")(baseless, short, run).values, without
    )
    assert np.abs(without - with_base).max() > 1e-6
    with pytest.raises(EngramError, match="does not say which base"):
        QuantileRegression("letters", reference="base")(baseless, short, run)


def test_refuses_a_reference_with_another_tokenizer(target, split, run, lms):
    from engram.families.causal_lm import LanguageModel, byte_tokenizer

    coarse = byte_tokenizer(split.texts, 270, 192)
    run.others["base"] = Target("coarse", "causal-lm", LanguageModel(lms[1].model, coarse), "c")
    run.others["letters"] = Split.of("letters", text=letters(50))
    with pytest.raises(EngramError, match="cuts the texts into other tokens"):
        QuantileRegression("letters")(target, split.take([0, 3]), run)


def test_needs_a_population(target, split, run):
    with pytest.raises(EngramError, match="learn thresholds from") as caught:
        QuantileRegression()(target, split, run)
    assert "--population" in caught.value.hint


def test_refuses_a_population_that_is_small_audited_too_or_of_another_kind(target, split, run):
    run.others["few"] = Split.of("few", text=letters(49))
    with pytest.raises(EngramError, match="has 49 records, but at least 50"):
        QuantileRegression("few")(target, split, run)
    run.others["same"] = Split.of("same", text=[*letters(60), split.texts[0]])
    with pytest.raises(EngramError, match="1 of the 61 records of the population"):
        QuantileRegression("same")(target, split, run)
    run.others["short"] = Split.of("short", text=[*letters(30), *[""] * 30])
    with pytest.raises(EngramError, match="about only 30 of the 60"):
        QuantileRegression("short")(target, split, run)
    run.others["numbers"] = Split.of("numbers", value=list(range(60)))
    with pytest.raises(EngramError, match="no column 'text'"):
        QuantileRegression("numbers")(target, split, run)


def test_refuses_losses_that_are_no_log_probability(victim, known):
    run, (members, _), _ = known
    negative = Known(run, {k: 0.0 for k in run.losses_of})
    object.__setattr__(negative, "losses", lambda target, split: np.full(len(split), -1.0))
    with pytest.raises(EngramError, match="not minus a log-probability"):
        QuantileRegression("public")(victim, members, negative)


@pytest.mark.parametrize("fields", [{"regression": "linear"}, {"statistic": "p"}])
def test_refuses_fields(fields):
    with pytest.raises((EngramError, TypeCheckError), match=next(iter(fields))):
        QuantileRegression("public", **fields)

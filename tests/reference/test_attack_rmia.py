"""RMIA against a slow second implementation and hand-worked cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.core import EngramError, Split
from engram.methods.attacks.rmia import Rmia, share_beaten

SAW = np.array([[1, 0, 1], [0, 1, 0]], bool)
P = np.array([[0.8, 0.2, 0.6], [0.4, 0.5, 0.2]])


def slow_share(ratios, gamma, others=None):
    """The share of other records whose ratio is beaten, pair by pair."""
    shares = []
    for i, x in enumerate(ratios):
        rest = others if others is not None else [r for j, r in enumerate(ratios) if j != i]
        shares.append(sum(x / z >= gamma for z in rest) / len(rest))
    return shares


def test_hand_worked():
    # p(x) online: means of both worlds; ratios 0.9/0.6, 0.35/0.35, 0.1/0.4.
    mean = Rmia().mean_probability(P, SAW)
    np.testing.assert_allclose(mean, [0.6, 0.35, 0.4])
    ratios = np.log(np.array([0.9, 0.35, 0.1]) / mean)
    np.testing.assert_allclose(share_beaten(ratios, 1.0), [1.0, 0.5, 0.0])
    # 1.5 beats 1 and 0.25 by 1.4, and 1 beats 0.25; by a factor of 5 only 1.5 beats 0.25.
    np.testing.assert_allclose(share_beaten(ratios, 1.4), [1.0, 0.5, 0.0])
    np.testing.assert_allclose(share_beaten(ratios, 5.0), [0.5, 0.0, 0.0])


def test_offline_asks_only_shadows_that_did_not_see_the_record():
    found = Rmia(mode="offline", offline_a=1.0).mean_probability(P, SAW)
    np.testing.assert_allclose(found, [0.4, 0.2, 0.2])
    found = Rmia(mode="offline", offline_a=0.5).mean_probability(P, SAW)
    np.testing.assert_allclose(found, [0.75 * 0.4 + 0.25, 0.75 * 0.2 + 0.25, 0.75 * 0.2 + 0.25])


positive = st.lists(st.integers(1, 64), min_size=2, max_size=12).map(
    lambda xs: np.array(xs, np.float64) / 8
)


@given(positive, st.sampled_from([1.0, 2**0.5, np.pi]), st.one_of(st.none(), positive))
def test_agrees_with_pairs(ratios, gamma, others):
    # Ratios of whole numbers tie exactly at gamma 1, and never with an irrational one.
    logs = None if others is None else np.log(others)
    np.testing.assert_allclose(
        share_beaten(np.log(ratios), gamma, logs), slow_share(ratios, gamma, others)
    )


def test_population_replaces_the_other_records(target, split, run):
    rng = np.random.default_rng(0)
    words = split.texts[0].split()
    texts = [" ".join(rng.permutation(words)) + f" {i}" for i in range(24)]
    run.others["public"] = Split.of("public", text=texts)
    found = Rmia(population="public")(target, split, run)
    assert len(np.unique(found.values)) > 1
    assert ((found.values >= 0) & (found.values <= 1)).all()


def test_refuses_a_population_that_overlaps(target, split, run):
    run.others["public"] = Split.of(
        "public", text=[*split.texts, *(f"text {i}" for i in range(20))]
    )
    with pytest.raises(EngramError, match="overlaps the members"):
        Rmia(population="public")(target, split, run)
    run.others["few"] = Split.of("few", text=["a text", "another"])
    with pytest.raises(EngramError, match="at least 20"):
        Rmia(population="few")(target, split, run)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shadows": 3}, "shadows is 3"),
        ({"gamma": 0.5}, "gamma is 0.5"),
        ({"gamma": float("nan")}, "gamma is nan"),
        ({"offline_a": 1.5}, "offline_a is 1.5"),
    ],
)
def test_refuses(fields, said):
    with pytest.raises(EngramError, match=said):
        Rmia(**fields)

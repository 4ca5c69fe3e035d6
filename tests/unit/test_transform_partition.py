"""Members and outsiders: by hand."""

import numpy as np
import pytest

from engram.core import EngramError, Split, stream
from engram.methods.transforms.partition import Partition
from engram.parts.partition import choose, groups, toss


def split_of(owners, texts=None):
    texts = texts or [f"text {i}" for i in range(len(owners))]
    return Split.of("hand", text=texts, owners=owners, ids=[f"r{i}" for i in range(len(owners))])


def test_owners_and_copies_are_joined_by_hand():
    split = split_of("aabbcd", ["1", "2", "2", "3", "4", "4"])
    group = groups(split)
    # a and b share the text 2, c and d the text 4
    assert len(set(group[:4].tolist())) == len(set(group[4:].tolist())) == 1
    assert group[0] != group[4]
    by_record = groups(split, "record").tolist()
    assert by_record[1] == by_record[2]
    assert len(set(by_record)) == 4


def test_equal_texts_with_other_fields_stay_together():
    split = Split.of("hand", text=["a", "a", "b"], note=["x", "y", "z"])
    group = groups(split, "record").tolist()
    assert group[0] == group[1] != group[2]


@pytest.mark.parametrize("seed", range(20))
def test_equal_owners_are_cut_exactly(seed):
    split = split_of([f"o{i // 4}" for i in range(80)])
    assert choose(split, 0.75, stream(seed)).sum() == 60


def test_owners_of_each_size_are_cut_in_the_same_ratio():
    sizes = [1] * 40 + [2] * 40 + [5] * 40
    owners = [f"o{i}" for i, n in enumerate(sizes) for _ in range(n)]
    members = choose(split_of(owners), 0.5, stream(1))
    side = dict(zip(owners, members.tolist(), strict=True))
    for start in (0, 40, 80):
        assert sum(side[f"o{i}"] for i in range(start, start + 40)) == 20


def test_canaries_are_cut_in_the_same_ratio():
    plain = split_of([f"o{i}" for i in range(200)])
    marked = Split(
        "hand", plain.records, plain.ids, plain.owners, tuple(i % 10 == 0 for i in range(200))
    )
    members = choose(marked, 0.5, stream(2))
    assert members[::10].sum() == 10
    assert members.sum() == 100


def test_every_owner_is_a_member_about_as_often_as_asked():
    split = split_of([f"o{i // 3}" for i in range(30)] + ["big"] * 7)
    often = np.mean([choose(split, 0.3, stream(seed)) for seed in range(300)], axis=0)
    assert abs(often - 0.3).max() < 0.12  # four standard errors and a half


def test_both_sides_have_records_even_for_tiny_shares():
    split = split_of("abcdef")
    for share in (0.001, 0.999):
        members = choose(split, share, stream(0))
        assert 0 < members.sum() < 6


def test_one_group_cannot_be_cut():
    with pytest.raises(EngramError, match="4 records are one group by owner") as caught:
        choose(split_of("aaaa"), 0.5, stream(0))
    assert "record" in caught.value.hint
    assert choose(split_of("aaaa"), 0.5, stream(0), "record").sum() == 2
    with pytest.raises(EngramError, match="one group by record"):
        choose(split_of("ab", ["same", "same"]), 0.5, stream(0), "record")
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(EngramError, match="must be in"):
            choose(split_of("ab"), share, stream(0))


def test_without_owners_records_are_cut():
    split = Split.of("hand", text=[str(i) for i in range(10)])
    assert choose(split, 0.5, stream(0)).sum() == 5


def test_features_without_text_can_be_cut(arrays):
    assert choose(arrays, 0.5, stream(0)).sum() == 6


def test_the_two_parts_of_one_seed_are_complementary(split, run):
    members, outsiders = (Partition(part)(split, run) for part in ("members", "outsiders"))
    assert (members.name, outsiders.name) == ("members", "outsiders")
    assert sorted(members.ids + outsiders.ids) == sorted(split.ids)
    assert not set(members.owners) & set(outsiders.owners)
    object.__setattr__(run, "seed", 99)
    assert Partition("members")(split, run).ids != members.ids


def test_coins_fall_independently_and_whole_owners_follow_them():
    """Variance of the number of members and agreement of two owners: as for fair coins."""
    split = split_of([f"o{i // 2}" for i in range(40)])
    draws = np.array([toss(split, 0.5, stream(seed, "coins")) for seed in range(400)])
    assert (draws[:, ::2] == draws[:, 1::2]).all()
    coins = draws[:, ::2]
    assert abs(coins.mean(axis=0) - 0.5).max() < 0.12
    assert abs(coins.sum(axis=1).var() - 20 / 4) < 1.5  # a fixed number has a variance of 0
    together = np.corrcoef(coins.T)[np.triu_indices(20, 1)]
    assert abs(together).max() < 0.25
    turned = toss(split.reversed(), 0.5, stream(7, "coins"))[::-1]
    np.testing.assert_array_equal(turned, toss(split, 0.5, stream(7, "coins")))


def test_coins_that_all_fall_alike_are_told():
    with pytest.raises(
        EngramError, match="all 6 coins fell alike, so that split 'hand' has no members"
    ) as caught:
        toss(split_of("abcdef"), 1e-9, stream(0))
    assert "by lot" in caught.value.hint
    with pytest.raises(EngramError, match="must be in"):
        toss(split_of("abcdef"), 1.0, stream(0))


def test_the_parts_are_complementary_with_coins_too(run):
    split = split_of([f"o{i}" for i in range(30)])
    sides = [Partition(part, coins=True)(split, run) for part in ("members", "outsiders")]
    assert sorted(sides[0].ids + sides[1].ids) == sorted(split.ids)
    assert sides[0].ids != Partition("members")(split, run).ids


def test_wrong_fields():
    for wrong in ({"part": "mine"}, {"by": "year"}, {"share": 1.0}):
        with pytest.raises((EngramError, TypeError)):
            Partition(**wrong)

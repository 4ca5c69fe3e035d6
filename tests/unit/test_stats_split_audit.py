"""The split audit: leaks of each kind are seen, honest splits are called clean."""

import time

import numpy as np
import pytest

from engram.core.errors import EngramError
from engram.core.randomness import stream
from engram.stats import split_audit
from engram.stats.blind import (
    assign_folds,
    bag_of_words,
    binned,
    clusters,
    length_features,
    number_features,
)
from engram.stats.near_duplicates import identical_outsiders, near_duplicates
from engram.stats.split_audit import audit_split
from engram.stats.tokens import MAX_CHARACTERS, words


def prose(rng, count, length=60, vocabulary=800):
    """Texts of words with the frequencies of language, all from one distribution."""
    weights = 1 / np.arange(1, vocabulary + 1)
    drawn = rng.choice(vocabulary, size=(count, length), p=weights / weights.sum())
    return [" ".join(f"w{word}" for word in row) for row in drawn]


def half(count):
    return np.arange(count) < count // 2


def audited(texts, is_member, owners=None, seed=0):
    return audit_split(texts, is_member, owners, stream(seed, "audit"))


def blind(audit, look):
    return next(f for f in audit.findings if f.name == f"blind AUC ({look})")


def found(audit, name):
    return next(f for f in audit.findings if f.name == name)


def test_an_honest_split_is_clean():
    audit = audited(prose(stream(0), 300), half(300))
    assert audit.verdict == "clean"
    assert len(audit.blind) == 4
    assert all(f.low <= 0.5 <= f.high for f in audit.blind)
    assert "cannot be told apart" in audit.reason


def test_other_words_on_one_side_are_seen():
    texts = [
        text + (" aspirin ward round" if row < 100 and row % 2 else " stable")
        for row, text in enumerate(prose(stream(1), 200))
    ]
    audit = audited(texts, half(200))
    assert audit.verdict == "inflated"
    assert blind(audit, "bag of words").low > 0.5
    assert blind(audit, "all together").low > 0.5
    assert "inflated" in audit.reason


def test_length_is_seen_even_where_it_is_not_longer_or_shorter():
    # members have a middling length, outsiders a short or a long one: no straight line tells
    rng = stream(2)
    middling, extreme = rng.integers(45, 55, 120), rng.choice([30, 70], 120)
    texts = [
        " ".join(prose(rng, 1, int(size))[0].split())
        for size in np.concatenate([middling, extreme])
    ]
    audit = audited(texts, half(240))
    assert blind(audit, "length").low > 0.8
    assert audit.verdict == "inflated"


def test_later_years_are_seen():
    rng = stream(3)
    years = np.concatenate([rng.integers(2001, 2013, 150), rng.integers(2009, 2021, 150)])
    texts = [f"{text} seen in {year}" for text, year in zip(prose(rng, 300), years, strict=True)]
    audit = audited(texts, half(300))
    assert blind(audit, "numbers and dates").low > 0.6
    assert audit.verdict == "inflated"


@pytest.mark.parametrize("by_owner", [False, True])
def test_honest_splits_are_called_clean_about_always(by_owner):
    """At least 95 % by construction; 16 splits may lose 4 to luck with a chance below 0.1 %."""
    rng = stream(4, "honest")
    clean = 0
    for seed in range(16):
        texts, owners = prose(rng, 120, length=30), None
        is_member = rng.permutation(half(120))
        if by_owner:  # everybody's five letters share a name and a turn of phrase
            people = np.repeat(np.arange(24), 5)
            owners = [f"p{person}" for person in people]
            texts = [f"{t} name{p} name{p} w{p} w{p}" for t, p in zip(texts, people, strict=True)]
            is_member = rng.permutation(half(24))[people]
        clean += audited(texts, is_member, owners, seed).verdict == "clean"
    assert clean >= 12


def test_owners_without_grouping_would_look_like_a_leak():
    # The reason for grouped folds: the words of a person carry over between their own records.
    rng = stream(5)
    people = np.repeat(np.arange(24), 8)
    texts = [f"{t} name{p} name{p}" for t, p in zip(prose(rng, 192, 30), people, strict=True)]
    is_member = people < 12
    assert audited(texts, is_member).verdict == "inflated"
    audit = audited(texts, is_member, [f"p{p}" for p in people])
    assert audit.verdict == "clean"
    assert "by owner" in audit.blind[0].note


def test_identical_records_never_stand_in_two_folds():
    # ten member texts and ten outsider texts, twelve times each: memorising them is no leak
    texts = np.repeat(prose(stream(6), 20, 30), 12).tolist()
    audit = audited(texts, np.repeat(half(20), 12))
    assert audit.verdict == "clean"


def test_near_duplicates_across_the_border_are_told():
    texts = prose(stream(7), 200, length=120)
    for row in range(10):  # ten outsiders repeat a member but for one word
        texts[100 + row] = texts[row].replace(texts[row].split()[60], "changed", 1)
    texts[110] = texts[50]
    audit = audited(texts, half(200))
    assert audit.verdict == "overlapping"
    assert "11.0%" in audit.reason
    share = found(audit, "outsiders nearly the same as a member")
    assert (share.value, share.n) == (0.11, 100)
    assert found(audit, "outsiders identical to a member").value == 0.01
    np.testing.assert_array_equal(audit.overlap.outsiders, np.arange(100, 111))
    np.testing.assert_array_equal(audit.overlap.members, [*range(10), 50])


def test_a_few_near_duplicates_are_tolerated_and_counted():
    texts = prose(stream(8), 400, length=60)
    texts[399] = texts[0]
    audit = audited(texts, half(400))
    assert audit.verdict == "clean"
    assert found(audit, "outsiders identical to a member").value == 1 / 200


def test_without_text_the_split_is_unknown():
    audit = audit_split(None, half(10), None, stream(0))
    assert (audit.verdict, audit.findings) == ("unknown", ())
    assert audit.reason == (
        "no text was given, so the split could not be audited: numbers may be inflated"
    )


@pytest.mark.parametrize(
    ("members", "outsiders", "why"), [(19, 50, "only 19 members"), (50, 7, "only 7 outsiders")]
)
def test_too_few_records_are_said(members, outsiders, why):
    texts = prose(stream(9), members + outsiders)
    audit = audited(texts, np.arange(members + outsiders) < members)
    assert audit.verdict == "unknown"
    assert all(f.value is None and why in f.note for f in audit.blind)
    assert found(audit, "outsiders identical to a member").value == 0


def test_too_few_owners_are_said():
    texts = prose(stream(10), 100)
    owners = ["ann" if row < 50 else f"p{row}" for row in range(100)]
    audit = audited(texts, half(100), owners)
    assert audit.verdict == "unknown"
    assert "1 independent groups" in audit.reason


def test_owners_on_both_sides_are_counted():
    owners = [f"p{row % 30}" for row in range(60)]
    audit = audited(prose(stream(11), 60), half(60), owners)
    both = found(audit, "owners with records on both sides")
    assert (both.value, both.n, both.unit) == (30, 30, "owners")


@pytest.mark.parametrize(
    "texts",
    [["same"] * 60, [""] * 60, ["x" + chr(97 + i // 8) + chr(97 + i % 8) for i in range(60)]],
)
def test_texts_that_tell_nothing(texts):
    audit = audited(texts, half(60))
    assert audit.verdict in {"clean", "overlapping", "unknown"}
    assert all(f.value is None or f.low <= 0.5 for f in audit.blind)


def test_features_of_other_records():
    rng = stream(12)
    rows = rng.normal(size=(200, 3, 4))
    assert audit_split(rows, half(200), None, stream(0)).verdict == "clean"
    shifted = rows + half(200)[:, None, None] * 1.0
    audit = audit_split(shifted, half(200), None, stream(0))
    assert audit.verdict == "inflated"
    assert [f.name for f in audit.blind] == ["blind AUC (linear)", "blind AUC (trees)"]
    assert all(f.low > 0.5 for f in audit.blind)


def test_trees_see_what_no_line_separates():
    rows = stream(13).normal(size=(400, 5))
    rows[:200, 0] *= 0.1
    audit = audit_split(rows, half(400), None, stream(0))
    assert audit.blind[0].low <= 0.5 < audit.blind[1].low
    assert audit.verdict == "inflated"


def test_wide_and_whole_number_features():
    rng = stream(14)
    pixels = rng.integers(0, 256, size=(260, 16, 16)).astype(np.uint8)
    pixels[130:][:3] = pixels[:3]
    audit = audit_split(pixels, half(260), None, stream(0))
    assert found(audit, "outsiders identical to a member").value == 3 / 130
    assert audit.verdict == "overlapping"


def test_a_feature_that_is_not_a_number_is_refused():
    rows = np.zeros((40, 2))
    rows[7, 1] = np.nan
    with pytest.raises(EngramError, match="record 7 is"):
        audit_split(rows, half(40), None, stream(0))


def test_a_single_class_or_other_lengths_are_refused():
    with pytest.raises(EngramError, match="3 members and 0 outsiders") as caught:
        audited(["a", "b", "c"], np.ones(3, dtype=bool))
    assert caught.value.hint
    with pytest.raises(EngramError, match="2 records but 4 membership labels"):
        audited(["a", "b"], half(4))


def test_the_same_stream_gives_the_same_audit():
    texts, is_member = prose(stream(15), 100), half(100)
    assert audited(texts, is_member).findings == audited(texts, is_member).findings


def test_only_some_records_of_a_big_split_are_looked_at(monkeypatch):
    monkeypatch.setattr(split_audit, "MAX_A_SIDE", 50)
    audit = audited(prose(stream(16), 260, 20), np.arange(260) < 200)
    assert all(f.n == 100 for f in audit.blind)
    assert "50 of 200 members and 50 of 60 outsiders, drawn at random" in audit.blind[0].note


def test_five_thousand_records_take_seconds():
    texts = prose(stream(17), 5000, length=100, vocabulary=20_000)
    start = time.process_time()
    audit = audited(texts, half(5000))
    assert time.process_time() - start < 20  # about 4 on a quiet core
    assert audit.verdict == "clean"


def test_a_huge_record_is_read_to_a_bound():
    texts = prose(stream(18), 60)
    texts[3] = "word " * 2_000_000
    assert words(texts).sizes[3] == MAX_CHARACTERS // 5
    assert audited(texts, half(60)).verdict == "clean"


def test_bag_of_words_agrees_with_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [*prose(stream(19), 30, 25, 60), "", "Only, Capitals!"]
    ours = bag_of_words(words(texts))
    theirs = TfidfVectorizer(
        ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"\w+"
    ).fit_transform(texts)
    assert ours.shape == theirs.shape
    # columns stand in another order, so compare what does not depend on it
    np.testing.assert_allclose((ours @ ours.T).toarray(), (theirs @ theirs.T).toarray(), atol=1e-12)


def test_numbers_and_dates_by_hand():
    row = number_features(["On 3 March 2019 and 2021-05-04: 7.5 mg"])[0]
    digits, share, numbers, mean, dates, year, first, last = row
    assert np.expm1(digits) == pytest.approx(15)
    assert share == pytest.approx(15 / 38)
    assert np.expm1(numbers) == pytest.approx(6)  # 3, 2019, 2021, 05, 04 and 7.5
    assert np.expm1(mean) == pytest.approx((3 + 2019 + 2021 + 5 + 4 + 7) / 6)
    assert np.expm1(dates) == pytest.approx(2)
    assert (year, first, last) == (2020, 2019, 2021)
    assert np.isnan(number_features(["none"])[0, [3, 5, 6, 7]]).all()


def test_length_by_hand():
    texts = ["one two", ""]
    row, empty = length_features(texts, words(texts))
    np.testing.assert_allclose(row, [np.log(8), np.log(3), 3.5])
    np.testing.assert_array_equal(empty, [0, 0, 0])


def test_bins_know_what_is_missing_and_drop_what_never_changes():
    column = np.array([1.0, 2.0, 3.0, np.nan])
    columns = binned(np.column_stack([column, np.full(4, 7.0), np.full(4, np.nan)]), bins=3)
    assert not np.isnan(columns).any()
    assert (np.ptp(columns, axis=0) > 0).all()
    assert [1.0, 1.0, 1.0, 0.0] in columns.T.tolist()
    assert binned(np.full((3, 2), 5.0)).shape == (3, 0)


def test_clusters_join_through_owners_and_copies():
    owner = np.array([0, 0, 1, 2, 3])
    found_clusters = clusters(owner, ["a", "b", "b", "c", "d"])
    # records 0 and 1 by owner, 1 and 2 by content
    assert len(set(found_clusters[:3])) == 1
    assert len(set(found_clusters)) == 3


def test_folds_keep_clusters_whole_and_both_sides_in_each():
    rng = stream(20)
    cluster = rng.integers(0, 80, 600)
    is_member = cluster % 4 == 0
    fold = assign_folds(cluster, is_member, rng)
    for each in np.unique(cluster):
        assert len(set(fold[cluster == each])) == 1
    for each in range(5):
        assert 0.15 < np.mean(fold[is_member] == each) * 1 < 0.25
        assert 0.15 < np.mean(fold[~is_member] == each) < 0.25


def jaccard_by_sets(one, other, length=5):
    """Word shingles as Python sets: the definition."""
    sets = []
    for text in (one, other):
        found_words = text.lower().split()
        runs = range(max(len(found_words) - length + 1, 1))
        sets.append({tuple(found_words[i : i + length]) for i in runs if found_words})
    return len(sets[0] & sets[1]) / max(len(sets[0] | sets[1]), 1)


def mutated(text, rng, edits):
    pieces = text.split()
    for place in rng.integers(0, len(pieces), edits):
        pieces[place] = f"new{rng.integers(1000)}"
    return " ".join(pieces)


@pytest.mark.parametrize("seed", range(4))
def test_near_duplicates_agree_with_comparing_every_pair(seed):
    rng = stream(seed, "jaccard")
    base = prose(rng, 12, length=80, vocabulary=40)
    texts = [mutated(base[rng.integers(12)], rng, rng.integers(0, 6)) for _ in range(80)]
    is_member = rng.random(80) < 0.5
    overlap = near_duplicates(texts, is_member, rng)
    members, outsiders = np.flatnonzero(is_member), np.flatnonzero(~is_member)
    expected = [
        o
        for o in outsiders
        if max(jaccard_by_sets(texts[o], texts[m]) for m in members) >= 0.8 - 1e-9
    ]
    assert 0 < len(expected) < len(outsiders)
    np.testing.assert_array_equal(overlap.outsiders, expected)
    pairs = zip(overlap.outsiders, overlap.members, overlap.shares, strict=True)
    for outsider, member, share in pairs:
        assert is_member[member]
        assert share >= 0.8 - 1e-9
        assert share == pytest.approx(jaccard_by_sets(texts[outsider], texts[member]))


def test_short_texts_are_compared_by_characters():
    texts = [
        "the patient is well today and goes home",
        "nothing of the kind here",
        "The patient is  well today and goes home.",
        "quite another thing altogether",
    ]
    overlap = near_duplicates(texts, half(4), stream(0))
    assert overlap.shingle == "runs of 5 characters"
    assert (overlap.outsiders.tolist(), overlap.members.tolist()) == ([2], [0])


def test_where_texts_are_too_alike_a_random_part_is_compared():
    rng = stream(21)
    shared = prose(rng, 1, length=100)[0]
    texts = [mutated(shared, rng, 40) for _ in range(200)]
    texts = [*texts, *[shared] * 200]
    is_member = np.tile([True, False], 200)
    overlap = near_duplicates(texts, is_member, rng, budget=60_000)
    assert 0 < overlap.looked_at < overlap.n_outsiders == 200
    finding = overlap.finding()
    assert finding.low < 0.5 < finding.high  # half of the outsiders are the shared text
    assert "a random part of 200" in finding.note


def test_identical_outsiders_by_hand():
    assert identical_outsiders(["a", "b", "a", "a", "c"], np.array([1, 1, 0, 0, 0], bool)) == 2

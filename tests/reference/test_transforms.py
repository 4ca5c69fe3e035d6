"""The transforms beside slow, plain second implementations."""

import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from engram.core import Split, stream
from engram.methods.transforms.deduplicate import Deduplicate, bands, candidates, shingles
from engram.parts.letters import letters
from engram.parts.partition import groups

VOCABULARY = [f"w{i}" for i in range(60)]


def noisy(rng, count):
    """Random texts, and copies of them with some words changed, in random order."""
    texts = []
    while len(texts) < count:
        words = list(rng.choice(VOCABULARY, rng.integers(3, 60)))
        for _ in range(rng.integers(1, 4)):
            changed = [w if rng.random() > 0.03 else rng.choice(VOCABULARY) for w in words]
            texts.append(" ".join(changed))
    return [texts[i] for i in rng.permutation(len(texts))]


def slow_jaccard(one, other, size):
    """From the definition, on sets of strings."""
    sets = []
    for text in (one, other):
        words = re.sub(r"\s+", " ", text.lower()).split()
        sets.append({" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def slow_kept(texts, threshold, size):
    """First of each component, with the components found by repeated relabelling."""
    label = list(range(len(texts)))
    pairs = [(i, j) for i, j in combinations(range(len(texts)), 2)
             if slow_jaccard(texts[i], texts[j], size) >= threshold]  # fmt: skip
    changed = True
    while changed:
        changed = False
        for i, j in pairs:
            low = min(label[i], label[j])
            if label[i] != low or label[j] != low:
                label[i] = label[j] = low
                changed = True
    return [texts[i] for i in range(len(texts)) if label[i] == i]


@pytest.mark.parametrize("threshold", [0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_near_duplicates_agree_with_all_pairs(threshold, seed, run):
    texts = noisy(np.random.default_rng(seed), 120)
    made = Deduplicate(threshold=threshold, shingle=3)(Split.of("noisy", text=texts), run)
    expected = slow_kept(texts, threshold, 3)
    assert list(made.texts) == expected
    assert len(expected) < len(texts)


def test_candidates_are_found_as_often_as_the_bands_promise(run):
    """Pairs of Jaccard index 1/3 must be found with probability 1 - (1 - J^r)^b."""
    rng = np.random.default_rng(0)
    count, rows = bands(0.6, 32)
    hits, pairs = 0, 600
    for k in range(pairs):
        words = [f"x{k}_{i}" for i in rng.permutation(80)]
        one, two = (frozenset((w,) for w in part) for part in (words[:40], words[20:60]))
        hits += (1, 0) in set(candidates([one, two], 0.6, 32, run))
    expected = 1 - (1 - (1 / 3) ** rows) ** count
    assert hits / pairs == pytest.approx(expected, abs=4 * np.sqrt(0.25 / pairs))


def test_letters_with_planted_near_copies(run):
    """Real-looking text: each copy has one word changed, and only the copies go."""
    made = letters(150, stream(0, "copies"))
    copies = [text.replace("Patient", "Client", 1) + " Thank you." for text in made.texts[:40]]
    both = Split.of("both", text=[*made.texts, *copies])
    assert Deduplicate()(both, run).texts == made.texts


def test_groups_agree_with_a_search_over_the_graph():
    rng = np.random.default_rng(3)
    for _ in range(20):
        n = int(rng.integers(2, 40))
        texts = [f"t{t}" for t in rng.integers(0, 30, n)]
        owners = [f"o{o}" for o in rng.integers(0, 25, n)]
        split = Split.of("graph", text=texts, owners=owners)
        fast = groups(split).tolist()
        slow = [reachable(i, texts, owners) for i in range(n)]
        for i, j in combinations(range(n), 2):
            assert (fast[i] == fast[j]) == (j in slow[i])


def reachable(start, texts, owners):
    seen, queue = {start}, [start]
    while queue:
        i = queue.pop()
        for j in range(len(texts)):
            if j not in seen and (texts[i] == texts[j] or owners[i] == owners[j]):
                seen.add(j)
                queue.append(j)
    return seen


def test_shingles_agree_with_counting_by_hand():
    text = "One, two; three one two"
    assert shingles(text, 2) == frozenset(
        {("one", ","), (",", "two"), ("two", ";"), (";", "three"), ("three", "one"),
         ("one", "two")}
    )  # fmt: skip
    assert max(Counter(len(s) for s in shingles(text, 3))) == 3

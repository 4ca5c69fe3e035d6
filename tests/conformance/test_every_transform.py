"""What every transform must do."""

import numpy as np
import pytest

from engram.catalog import entries
from engram.core import Split, stream
from engram.parts.biographies import Telling, World, biographies
from engram.parts.cells.genotype import random_genotype

TRANSFORMS = [pytest.param(entry.load(), id=name) for name, entry in entries("transforms").items()]
pytestmark = pytest.mark.parametrize("transform", TRANSFORMS)
QUICK = {
    "DistilGradients": {"networks": 2, "rounds": 2, "network_steps": 2},
    "Doorping": {"networks": 2, "rounds": 2, "network_steps": 2, "trigger_steps": 2, "margin": 0},
    "InvisibleTrigger": {"networks": 2, "rounds": 2, "network_steps": 2, "trigger_steps": 2},
    "DistilDistributions": {"steps": 5},
    "DistilKernel": {"steps": 5, "oldest": 5},
    "DistilSelfSupervised": {"steps": 5, "oldest": 5, "teacher_epochs": 1},
}
"""Settings of transforms that take minutes as they are: a few steps show what is asked here."""


def quick(transform):
    return transform(**QUICK.get(transform.__name__, {}))


@pytest.fixture
def split(transform, split) -> Split:
    """Texts that every transform can change; some ask for more `columns` than the text."""
    if transform.__name__ == "BiographyQuestions":
        return biographies(World(6), Telling(multi=2), stream(0, "conformance"))
    if "genotype" in getattr(transform, "columns", ()):
        cells = [str(random_genotype(stream(i, "conformance"))) for i in range(24)]
        auc, owners = stream(0, "auc").uniform(0.7, 0.9, 24), [f"lab {i // 2}" for i in range(24)]
        return Split.of("cells", genotype=cells, auc=auc, owners=owners)
    if not getattr(transform, "columns", ()):
        return split
    if "features" in transform.columns:
        rows = stream(0, "conformance").random((len(split), 16)).astype(np.float32)
        label = np.arange(len(split)) % 3
        return Split.of("rows", owners=split.owners, features=rows, label=label)
    words = [text.split() for text in split.texts]
    noted = {
        "words": words,
        "lemmas": words,
        "upos": [["X"] * len(each) for each in words],
        "feats": [[""] * len(each) for each in words],
        "blanks": [[True] * len(each) for each in words],
        # Pictures of 4 by 4 pixels.
        "features": stream(0, "pixels").random((len(words), 16), np.float32),
        "label": [k % 2 for k in range(len(words))],
    }
    assert set(transform.columns) <= set(noted)
    return Split.of("texts", text=split.texts, owners=split.owners, **noted)


def test_returns_a_split_with_an_id_for_each_record(transform, split, run):
    made = quick(transform)(split, run)
    assert isinstance(made, Split)
    assert len(set(made.ids)) == len(made)


def test_repeats_itself_with_the_same_seed(transform, split, run):
    first, second = (quick(transform)(split, run) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.ids == second.ids


def test_leaves_the_given_records_as_they_are(transform, split, run):
    before = split.fingerprint, split.to_table()
    quick(transform)(split, run)
    del split.__dict__["fingerprint"]
    assert (split.fingerprint, split.to_table()) == before


def test_keeps_the_owners_of_records_that_stay(transform, split, run):
    made = quick(transform)(split, run)
    owner_of = dict(zip(split.ids, split.owners, strict=True))
    for record, owner in zip(made.ids, made.owners or (), strict=False):
        if record in owner_of:
            assert owner == owner_of[record]
    if set(made.ids) & set(split.ids):
        assert made.owners is not None, "records that stay keep their owners"

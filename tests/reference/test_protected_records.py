"""Transforms that protect records: what they promise, what they tell, and what they refuse."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram import catalog
from engram.core import EngramError, Split, stream
from engram.engine import EngineRun
from engram.parts.attributes import attributes_of
from engram.parts.microaggregation import sizes_of_equals


def method(kind, name, **fields):
    return catalog.find(kind, name).load()(**fields)


def rows(n, features=4, classes=3):
    rng = stream(0, "rows")
    label = np.arange(n) % classes
    table = (rng.normal(size=(n, features)) + label[:, None]).astype(np.float32)
    return Split.of("rows", features=table, label=label)


NAMES = np.array(["age", "work=a", "work=b", "work=c", "pay"])


@pytest.fixture
def table() -> Split:
    """Thirty people: two numbers and a job, one of three."""
    rng = np.random.default_rng(0)
    work = np.eye(3)[rng.integers(0, 3, 30)]
    age, pay = rng.uniform(20, 60, 30), rng.uniform(0, 9, 30)
    features = np.column_stack([age, work, pay]).astype(np.float32)
    owners = [f"owner-{i}" for i in range(30)]
    label = rng.integers(0, 2, 30)
    shared = {"feature_names": NAMES}
    return Split.of("people", features=features, label=label, owners=owners, shared=shared)


@dataclass(frozen=True)
class Told(EngineRun):
    """A run that keeps its log."""

    entries: dict = field(default_factory=dict)

    def log(self, **entry):
        self.entries.update(entry)


BOUNDS = ("age=0:100", "p*=0:10")


def test_attributes_are_read_from_names(table):
    found = attributes_of(table, 5)
    assert [(a.name, a.columns, a.words) for a in found] == [
        ("age", (0,), ()),
        ("work", (1, 2, 3), ("a", "b", "c")),
        ("pay", (4,), ()),
    ]


def test_every_record_is_one_of_k(table):
    told = Told()
    found = method("transforms", "k-anonymise", k=4, t=0.1)(table, told)
    sizes = sizes_of_equals(found.matrix("features"))
    assert sizes.min() >= 4
    assert sizes.tolist() == found.shared["class_sizes"].tolist()
    assert told.entries["smallest equivalence class"] == sizes.min()
    assert told.entries["groups further than t"] > 0
    np.testing.assert_array_equal(found.matrix("label"), table.matrix("label"))
    np.testing.assert_allclose(
        found.matrix("features").mean(0), table.matrix("features").mean(0), rtol=1e-5
    )


def test_nothing_leads_back(table):
    for name, fields in (("k-anonymise", {"k": 4}), ("dp-data", {"bounds": BOUNDS})):
        found = method("transforms", name, **fields)(table, Told())
        assert not set(found.ids) & set(table.ids)
        assert found.owners is None
        assert set(found.columns) == {"features", "label"}


def test_labels_may_be_included(table):
    found = method("transforms", "k-anonymise", k=4, include_label=True)(table, Told())
    both = np.column_stack([found.matrix("features"), found.matrix("label")])
    assert sizes_of_equals(both).min() >= 4


def test_other_columns_than_quasi_identifiers_stay(table):
    found = method("transforms", "k-anonymise", k=4, quasi=("age", "wo*"))(table, Told())
    np.testing.assert_array_equal(found.matrix("features")[:, 4], table.matrix("features")[:, 4])
    assert sizes_of_equals(found.matrix("features")[:, :4]).min() >= 4
    with pytest.raises(EngramError, match="'agee' fits no attribute") as caught:
        method("transforms", "k-anonymise", k=4, quasi=("agee",))(table, Told())
    assert "age" in caught.value.hint


def test_a_constant_column_tells_nobody_apart(table):
    features = table.matrix("features").copy()
    features[:, 0] = 7
    told, same = Told(), Split.of("c", features=features, label=table.matrix("label"))
    found = method("transforms", "k-anonymise", k=5)(same, told)
    assert told.entries["constant columns"] == 1
    assert (found.matrix("features")[:, 0] == 7).all()


def test_k_larger_than_the_table(table):
    with pytest.raises(EngramError, match="k is 31, but the table has only 30 records"):
        method("transforms", "k-anonymise", k=31)(table, Told())
    with pytest.raises(EngramError, match="k is 31"):
        method("transforms", "dp-data", mechanism="microaggregated", k=31, bounds=BOUNDS)(
            table, Told()
        )


@given(st.floats(0.1, 50), st.sampled_from(["laplace", "microaggregated"]), st.booleans())
def test_budgets_are_shared_out_and_values_stay_in_bounds(epsilon, mechanism, label):
    told, small = Told(), rows(12, features=3)
    found = method(
        "transforms", "dp-data", epsilon=epsilon, mechanism=mechanism, bounds=("*=-2:3",),
        k=3, include_label=label,
    )(small, told)  # fmt: skip
    spent = found.shared["epsilon_by_attribute"]
    assert len(spent) == 3 + label
    assert spent.sum() == pytest.approx(epsilon)
    assert told.entries["epsilon of a record"] == pytest.approx(epsilon)
    features = found.matrix("features")
    assert features.min() >= -2
    assert features.max() <= 3
    if mechanism == "microaggregated":
        assert sizes_of_equals(features).min() >= 3
    if not label:
        assert (found.matrix("label") == small.matrix("label")).all()


def test_values_beyond_their_bounds_are_counted(table):
    told = Told()
    found = method("transforms", "dp-data", bounds=("age=30:40", "pay=0:10"))(table, told)
    age = table.matrix("features")[:, 0]
    assert told.entries["values beyond their bounds"] == ((age < 30) | (age > 40)).sum()
    work = found.matrix("features")[:, 1:4]
    assert (work.sum(1) == 1).all()
    assert set(told.entries) >= {"epsilon of age", "epsilon of work", "epsilon of pay"}


@pytest.mark.parametrize(
    ("fields", "fact"),
    [
        ({"bounds": ("age=0:100",)}, "'pay' has no bounds"),
        ({"bounds": ("age=5:5",)}, "low below high"),
        ({"bounds": ("age",)}, "low below high"),
        ({"epsilon": 0.0}, "epsilon is 0"),
        ({"mechanism": "randomised-response"}, "'age' is a number"),
    ],
)
def test_mistakes_are_told(table, fields, fact):
    with pytest.raises(EngramError, match=fact):
        method("transforms", "dp-data", **fields)(table, Told())


def test_an_unknown_category_is_told(table):
    features = table.matrix("features").copy()
    features[3, 1:4] = 0
    strange = Split.of(
        "s", features=features, label=table.matrix("label"), shared={"feature_names": NAMES}
    )
    with pytest.raises(EngramError, match="none of the 3 known categories of 'work'"):
        method("transforms", "dp-data", bounds=BOUNDS)(strange, Told())


def test_categories_alone(table):
    words = Split.of(
        "w",
        features=table.matrix("features")[:, 1:4],
        label=table.matrix("label"),
        shared={"feature_names": NAMES[1:4]},
    )
    found = method("transforms", "dp-data", mechanism="randomised-response", epsilon=60.0)(
        words, Told()
    )
    np.testing.assert_array_equal(found.matrix("features"), words.matrix("features"))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_mosaics_of_images(shape):
    rng = np.random.default_rng(0)
    features = rng.random((6, int(np.prod(shape)))).astype(np.float32)
    images = Split.of(
        "i", features=features, label=np.zeros(6, int), shared={"image_shape": np.array(shape)}
    )
    found = method("transforms", "dp-pix", epsilon=1e9)(images, Told())
    made = found.matrix("features").reshape(6, 8, 8, -1)
    whole = features.reshape(6, 8, 8, -1)
    np.testing.assert_allclose(made[:, 0, 0], whole[:, :4, :4].mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(made[:, 3, 7], whole[:, :4, 4:].mean((1, 2)), atol=1e-5)
    noisy = method("transforms", "dp-pix", epsilon=0.5)(images, Told()).matrix("features")
    assert 0 <= noisy.min() <= noisy.max() <= 1
    with pytest.raises(EngramError, match="do not divide"):
        method("transforms", "dp-pix", block=3)(images, Told())

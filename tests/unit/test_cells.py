"""Genotypes: how they are read and refused; networks of cells: shapes, records apart, reloading."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Split, stream, torch_seeded
from engram.families.classifier import FAMILY, ClassifierModel
from engram.parts.cells.genotype import (
    DARTS_V2,
    KINDS,
    OPERATIONS,
    OWN,
    Cell,
    Edge,
    Genotype,
    every_edge,
    genotype_of,
    neighbours,
    node_of,
    parse,
    random_genotype,
    slot_of,
)
from engram.parts.cells.network import Halved, operation, reductions
from engram.parts.networks import Layout
from engram.parts.per_record import per_record_gradients

PAIRS = tuple(("skip_connect", source) for _ in OWN for source in (0, 1))
PLAIN = Genotype(Cell(PAIRS), Cell(PAIRS))


seeds = st.integers(0, 2**32)


def drawn(seed):
    return random_genotype(stream(seed, "cells"))


@given(seeds)
def test_what_is_written_is_read_again(seed):
    genotype = drawn(seed)
    assert parse(str(genotype)) == genotype
    assert genotype_of(f"  {genotype}\n") == genotype


def test_reads_what_others_publish():
    """A published line; `range(2, 6)` and tuples are written by some."""
    line = str(DARTS_V2)
    assert line.startswith("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ")
    assert line.endswith("reduce_concat=[2, 3, 4, 5])")
    for other in ("range(2, 6)", "(2, 3, 4, 5)"):
        assert parse(line.replace("[2, 3, 4, 5]", other)) == DARTS_V2
    assert genotype_of("darts-v2") == DARTS_V2
    assert Edge("normal", 2, 5, "dil_conv_3x3") in DARTS_V2.edges


@given(seeds)
def test_a_genotype_has_sixteen_edges_into_later_nodes(seed):
    genotype = drawn(seed)
    assert len(genotype.edges) == 16
    for kind in KINDS:
        for slot, edge in enumerate(genotype.slots(kind)):
            assert edge.source < edge.node == node_of(slot)
            assert slot - slot_of(edge.node) in (0, 1)


@given(seeds)
def test_the_order_of_a_nodes_edges_says_nothing(seed):
    genotype = drawn(seed)
    pairs = genotype.normal.pairs
    swapped = tuple(pair for i in range(0, 8, 2) for pair in (pairs[i + 1], pairs[i]))
    assert genotype.having("normal", Cell(swapped)).edges == genotype.edges


def test_nodes_of_slots_are_whole_numbers():
    assert [node_of(slot) for slot in range(8)] == [2, 2, 3, 3, 4, 4, 5, 5]
    assert all(isinstance(node_of(slot), int) for slot in range(8))


def test_every_edge_there_can_be():
    edges = every_edge()
    assert len(set(edges)) == len(edges) == 2 * (2 + 3 + 4 + 5) * 7
    assert edges == tuple(dict.fromkeys(edges))


@settings(max_examples=30)
@given(seeds, st.integers(0, 7), st.sampled_from(KINDS))
def test_neighbours_differ_in_one_edge(seed, slot, kind):
    genotype = drawn(seed)
    edge = genotype.slots(kind)[slot]
    found = list(neighbours(genotype, edge))
    # Six operations, and every earlier node but the two that are used.
    assert len(found) == len(set(found)) == 6 + (edge.node - 2)
    for other in found:
        gone, come = genotype.edges - other.edges, other.edges - genotype.edges
        assert gone == {edge}
        assert {(e.cell, e.node) for e in come} == {(kind, edge.node)}


LINE = str(PLAIN)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no genotype"),
        ("Genotype(", "is no genotype"),
        ("__import__('os').getcwd()", "is no genotype"),
        ("Genotype([1], [2])", "is no genotype"),
        ("\x00", "is no genotype"),
        ("Genotype(" * 400 + ")" * 400, "is no genotype"),
        ("x" * 5000, "5000 characters"),
        (LINE.replace("normal=", "reduce=", 1), "twice"),
        (LINE.replace("normal=", "norml=", 1), "no part called 'norml'"),
        (LINE.split(", reduce=")[0] + ")", "no reduce cell"),
        (LINE.replace("('skip_connect', 0)", "('skip', 0)", 1), "normal cell: .* 'skip'"),
        (LINE.replace("('skip_connect', 0)", "('none', 0)", 1), "the operation 'none'"),
        (LINE.replace("('skip_connect', 0)", "('skip_connect', 2)", 1), "node 2 comes from node 2"),
        (LINE.replace("('skip_connect', 0)", "('skip_connect', -1)", 1), "from node -1"),
        (LINE.replace("('skip_connect', 0)", "('skip_connect', True)", 1), "from node True"),
        (LINE.replace("('skip_connect', 0)", "('skip_connect', 0.0)", 1), "0.0\\) is no edge"),
        (LINE.replace("('skip_connect', 0)", "('skip_connect', 1)", 1), "takes node 1 twice"),
        (LINE.replace("('skip_connect', 0), ", "", 1), "a cell has 7 edges"),
        (LINE.replace("('skip_connect', 0)", "(open('x'), 0)", 1), "no plain list"),
        (LINE.replace("('skip_connect', 0)", "'skip_connect'", 1), "no list of pairs"),
        (LINE.replace("[2, 3, 4, 5]", "[]", 1), "output is made of nodes"),
        (LINE.replace("[2, 3, 4, 5]", "[3, 2]", 1), "output is made of nodes"),
        (LINE.replace("[2, 3, 4, 5]", "[1, 2]", 1), "output is made of nodes"),
        (LINE.replace("[2, 3, 4, 5]", "range(2, 10**9)", 1), "no plain list|output"),
        (LINE.replace("[2, 3, 4, 5]", "list(2, 6)", 1), "no plain list"),
        (LINE.replace("[2, 3, 4, 5]", "'2345'", 1), "no list of nodes"),
    ],
)
def test_refuses_what_is_no_genotype(text, said):
    with pytest.raises(EngramError, match=said) as told:
        parse(text)
    assert told.value.hint


def test_a_name_that_is_none_is_told():
    with pytest.raises(EngramError, match="darts-v3") as told:
        genotype_of("darts-v3")
    assert "darts-v2" in told.value.hint


def test_which_cells_reduce():
    assert [sorted(reductions(n)) for n in (1, 2, 3, 5, 8)] == [[], [1], [1, 2], [1, 3], [2, 5]]


@pytest.mark.parametrize("side", [(8, 8), (7, 5), (2, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_halve_upwards(name, stride, side):
    with torch_seeded(0, "tests"):
        made = operation(name, 4, stride)
    found = made(torch.zeros(2, 4, *side))
    assert found.shape == (2, 4, *(-(-s // stride) for s in side))


def test_halving_looks_at_even_and_odd_pixels():
    """Worked by hand: one channel to two, weights 1, without normalisation."""
    halved = Halved(1, 2)
    halved.norm = torch.nn.Identity()
    for way in (halved.even, halved.odd):
        way.weight.data.fill_(1.0)
    image = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    even, odd = halved(image)[0]
    assert even.tolist() == [[1, 3], [7, 9]]
    assert odd.tolist() == [[5, 0], [0, 0]]  # beyond the edge there is nothing


def test_average_pooling_leaves_the_border_out():
    """The mean of what is there: four pixels in a corner, not nine with zeros."""
    found = operation("avg_pool_3x3", 1, 1)(torch.arange(9.0).reshape(1, 1, 3, 3))
    assert found[0, 0, 0, 0] == (0 + 1 + 3 + 4) / 4


def network(genotype, layers=3, shape=(1, 8, 8)):
    with torch_seeded(0, "tests"):
        return Layout(f"cells:{genotype}", shape, 3, 4, layers).build().eval()


@settings(max_examples=2)
@given(seeds)
def test_a_records_answer_is_its_own(seed):
    genotype = drawn(seed)
    made = network(genotype)
    with torch_seeded(1, "tests"):
        batch = torch.rand(5, 64)
    alone = torch.cat([made(row[None]) for row in batch])
    torch.testing.assert_close(made(batch), alone, rtol=1e-4, atol=1e-5)


def test_a_cell_computes_what_its_genotype_says():
    """Skips alone: node 2 is the sum of both inputs, and each later node as well."""
    made = network(PLAIN, layers=1)
    cell = made.body.cells[0]
    with torch_seeded(1, "tests"):
        first, second = torch.rand(2, 1, 4, 8, 8)
    inputs = cell.inputs[0](first), cell.inputs[1](second)
    torch.testing.assert_close(cell(first, second), torch.cat([sum(inputs)] * 4, dim=1))


def test_gradients_of_single_records_exist():
    made = network(DARTS_V2, layers=2)
    rng = np.random.default_rng(0)
    features, labels = torch.from_numpy(rng.random((3, 64), np.float32)), torch.tensor([0, 1, 2])
    entropy = torch.nn.functional.cross_entropy

    def loss(call, record, label):
        return entropy(call(record), label)

    found, _ = per_record_gradients(made, loss, (features, labels))
    loss = entropy(made(features[1:2]), labels[1:2])
    expected = torch.autograd.grad(loss, list(made.parameters()))
    for (name, _), other in zip(made.named_parameters(), expected, strict=True):
        torch.testing.assert_close(found[name][1], other, rtol=1e-3, atol=1e-5)


def test_a_saved_target_is_the_same_network_again(tmp_path):
    made = network(random_genotype(stream(3, "cells")))
    FAMILY.save(ClassifierModel(made), tmp_path)
    again = FAMILY.load(tmp_path)
    assert again.layout == made.layout
    batch = torch.linspace(0, 1, 128).reshape(2, 64)
    assert torch.equal(again.model(batch), made(batch))
    said = json.loads((tmp_path / "config.json").read_text())
    said["architecture"] = said["architecture"].replace("_5x5", "_9x9")
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(EngramError, match="9x9"):
        FAMILY.load(tmp_path)


def test_it_is_trained_by_name(tmp_path):
    from engram.engine import EngineRun, train
    from engram.methods.recipes.train_classifier import TrainClassifier

    rng = np.random.default_rng(0)
    split = Split.of(
        "images", features=rng.random((12, 16)).astype(np.float32), label=rng.integers(0, 2, 12)
    )
    recipe = TrainClassifier(architecture="cells:darts-v2", width=4, layers=2, epochs=1)
    target = train(recipe, split, EngineRun(root=tmp_path), source="", holdout=0.5)
    assert target.model.layout.shape == (1, 4, 4)
    assert FAMILY.load(target.folder).layout.architecture == "cells:darts-v2"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"architecture": "cells:"}, "no genotype"),
        ({"architecture": "cells"}, "no architecture 'cells'"),
        ({"architecture": "cells:darts"}, "no genotype called 'darts'"),
        ({"shape": (64,)}, "needs images"),
        ({"layers": 40}, "40 cells"),
        ({"width": 2000}, "cells of 2000 channels"),
    ],
)
def test_refuses_layouts_that_are_none(fields, said):
    given = {"architecture": "cells:darts-v2", "shape": (1, 8, 8), "classes": 2, **fields}
    with pytest.raises(EngramError, match=said):
        Layout(**given)


def test_refuses_to_halve_an_image_to_one_pixel():
    with pytest.raises(EngramError, match="3 cells leave one pixel of an image of 4 x 3"):
        network(PLAIN, layers=3, shape=(1, 4, 3))
    assert network(PLAIN, layers=3, shape=(1, 5, 3))(torch.zeros(2, 15)).shape == (2, 3)

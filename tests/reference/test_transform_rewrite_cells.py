"""Edges, risk and edits of cells: slow second implementations, and cases worked by hand."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Split, stream
from engram.methods.transforms.edge_importance import EdgeImportance
from engram.methods.transforms.rewrite_cells import RewriteCells
from engram.parts.cells.genotype import (
    OPERATIONS,
    OWN,
    Cell,
    Edge,
    Genotype,
    every_edge,
    parse,
    random_genotype,
)
from engram.parts.cells.rewrite import changes, check_plan, pattern, rewrite
from engram.parts.cells.risk import (
    Importance,
    Regressor,
    cross_validated,
    edge_importances,
    extreme,
    features,
    fit,
    one_hots,
    operation_counts,
)
from engram.parts.cells.survey import Learning, read_survey

PAIRS = tuple(("skip_connect", source) for _ in OWN for source in (0, 1))
PLAIN = Genotype(Cell(PAIRS), Cell(PAIRS))
SEP, AVG = "sep_conv_3x3", "avg_pool_3x3"


def cells(n, seed=0):
    rng = stream(seed, "cells")
    return [random_genotype(rng) for _ in range(n)]


def pooled(genotype):
    """An AUC that average pooling in the reduction cell lowers by 0.02 an edge."""
    return 0.9 - 0.02 * sum(e.cell == "reduce" and e.operation == AVG for e in genotype.edges)


def edge(source, node, operation=SEP, cell="reduce"):
    return Edge(cell, source, node, operation)


def test_one_hots_and_counts_by_hand():
    hots = one_hots([PLAIN])[0]
    assert {e for e, hot in zip(every_edge(), hots, strict=True) if hot} == PLAIN.edges
    assert hots.sum() == 16
    counts = operation_counts([PLAIN])[0]
    assert counts.tolist() == [0, 0, 8, 0, 0, 0, 0] * 2
    assert features([PLAIN], False).shape == (1, 196)
    assert features([PLAIN], True).shape == (1, 210)


def test_ridge_solves_its_normal_equations():
    known = cells(30)
    risk = np.array([pooled(g) for g in known]) + stream(0, "noise").normal(size=30) * 0.01
    found = fit(known, risk)
    x = features(known, True)
    centred = x - x.mean(0)
    expected = np.linalg.solve(
        centred.T @ centred + found.penalty * np.eye(x.shape[1]), centred.T @ (risk - risk.mean())
    )
    np.testing.assert_allclose(found.weights, expected, atol=1e-9)
    np.testing.assert_allclose(found(known), (centred @ expected) + risk.mean(), atol=1e-9)


def test_counts_help_where_cells_are_few():
    known, other = cells(30), cells(200, seed=1)
    risk, truth = (np.array([pooled(g) for g in each]) for each in (known, other))
    errors = [np.mean((fit(known, risk, c)(other) - truth) ** 2) for c in (True, False)]
    assert errors[0] < errors[1] / 4


def test_cross_validation_never_saw_the_cell_nor_its_twin():
    """AUCs of pure noise are not foreseen, although each cell stands in the table twice."""
    known = cells(40) * 2
    risk = np.tile(stream(0, "noise").uniform(0.5, 0.9, 40), 2)
    found = cross_validated(known, risk, stream(0, "folds"))
    assert np.array_equal(found[:40], found[40:])
    assert np.corrcoef(found, risk)[0, 1] < 0.3
    truth = np.array([pooled(g) for g in known])
    assert np.corrcoef(cross_validated(known, truth, stream(0, "folds")), truth)[0, 1] > 0.95


def slow_importance(edge, genotype, predict):
    """OI by trying every genotype of two cells that differs in this edge: from the card's words."""
    pairs = list(genotype.cell(edge.cell).pairs)
    slot = next(i for i, p in enumerate(pairs) if (p[1], i // 2 + 2, p[0]) == edge_key(edge))
    sibling = pairs[slot + 1 if slot % 2 == 0 else slot - 1][1]
    values = []
    for operation in OPERATIONS:
        for source in range(edge.node):
            changed = (operation != edge.operation) + (source != edge.source)
            if changed != 1 or source == sibling:
                continue
            new = [*pairs]
            new[slot] = (operation, source)
            values.append(predict([genotype.having(edge.cell, Cell(tuple(new)))])[0])
    return np.mean(values) - predict([genotype])[0]


def edge_key(edge):
    return edge.source, edge.node, edge.operation


def some_regressor(seed=0):
    weights = stream(seed, "weights").normal(size=210)
    return Regressor(weights, 0.5, 1.0, True)


@settings(max_examples=3)
@given(st.integers(0, 10**6))
def test_importances_agree_with_trying_everything(seed):
    known, predict = cells(2, seed), some_regressor(seed)
    for found in edge_importances(known, predict):
        having = [g for g in known if found.edge in g.edges]
        assert found.frequency == len(having)
        expected = np.mean([slow_importance(found.edge, g, predict) for g in having])
        np.testing.assert_allclose(found.value, expected, atol=1e-9)


def test_edges_in_odd_slots_count_like_any_other():
    """Keys by `slot / 2 + 2` put every second edge under a node that nobody asks for."""
    known = cells(6)
    found = {i.edge: i.frequency for i in edge_importances(known, some_regressor())}
    for genotype in known:
        for kind in ("normal", "reduce"):
            for slot, edge in enumerate(genotype.slots(kind)):
                assert found[edge] >= 1, f"the edge in slot {slot} is forgotten"
    assert sum(found.values()) == 6 * 16
    # The same cells with the edges of each node in the other order have the same importances.
    swapped = [
        Genotype(*(Cell(tuple(c.pairs[i ^ 1] for i in range(8))) for c in (g.normal, g.reduce)))
        for g in known
    ]
    mine, other = (edge_importances(each, some_regressor()) for each in (known, swapped))
    assert [(i.edge, i.frequency) for i in mine] == [(i.edge, i.frequency) for i in other]
    np.testing.assert_allclose([i.value for i in mine], [i.value for i in other], atol=1e-12)


def test_importance_of_a_linear_regressor_by_hand():
    """Only the skip from 0 to 2 in the reduction cell has a weight: 0.7 is lost without it."""
    weights = np.zeros(196)
    weights[every_edge().index(edge(0, 2, "skip_connect"))] = 0.7
    found = edge_importances([PLAIN], Regressor(weights, 0.1, 1.0, False))
    values = {i.edge: i.value for i in found}
    assert values.pop(edge(0, 2, "skip_connect")) == pytest.approx(-0.7)
    assert all(value == pytest.approx(0) for value in values.values())


def test_edges_that_few_cells_have_are_left_out():
    known = cells(8)
    everything = edge_importances(known, some_regressor())
    assert edge_importances(known, some_regressor(), 2) == tuple(
        i for i in everything if i.frequency >= 2
    )
    assert edge_importances([], some_regressor()) == ()


def test_extremes():
    risk = np.array([0.7, 0.9, 0.8, 0.6])
    assert extreme(risk, 0.5, highest=True).tolist() == [1, 2]
    assert extreme(risk, 0.25, highest=False).tolist() == [3]
    assert extreme(risk, 0.01, highest=False).tolist() == [3]


def importances(*pairs):
    return [Importance(edge, value, 20) for edge, value in pairs]


def test_pattern_by_hand():
    given = importances(
        (edge(0, 2), -0.9),  # begins
        (edge(1, 3), -0.8),  # hangs on nothing yet: has to wait for node 1 or 3
        (edge(0, 2, AVG), -0.7),  # 0 and 2 are joined already
        (edge(2, 4), -0.6),  # second: shares node 2
        (edge(3, 4), -0.5),  # third: shares node 4, and reaches 3
        (edge(0, 4), -0.4),  # node 4 has two inputs: never
        (edge(0, 3), 0.3),  # lowers the AUC: not for a promotion
        (edge(0, 5, cell="normal"), -1.0),  # another cell
    )
    found = pattern(given, "reduce", "promote")
    assert found == (edge(0, 2), edge(2, 4), edge(3, 4), edge(1, 3))
    assert pattern(given, "reduce", "promote", 2) == found[:2]
    assert pattern(given, "reduce", "demote") == (edge(0, 3),)
    assert pattern(given, "normal", "promote") == (edge(0, 5, cell="normal"),)
    assert pattern([], "reduce", "promote") == ()


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from(["promote", "demote"]))
def test_patterns_hang_together_and_fit_into_a_cell(seed, direction):
    rng = stream(seed, "importances")
    given = importances(*((e, float(rng.normal())) for e in every_edge()))
    found = pattern(given, "reduce", direction)
    assert 1 <= len(found) <= 8
    assert len({(e.source, e.node) for e in found}) == len(found)
    assert max(sum(e.node == node for e in found) for node in OWN) <= 2
    reached = {found[0].source, found[0].node}
    for each in found[1:]:
        assert {each.source, each.node} & reached
        reached |= {each.source, each.node}
    value = {i.edge: i.value for i in given}
    assert all((value[e] < 0) == (direction == "promote") for e in found)
    strongest = (min if direction == "promote" else max)(
        (i for i in given if i.edge.cell == "reduce"), key=lambda i: i.value
    )
    assert found[0] == strongest.edge


def test_rewriting_by_hand():
    """Slot by slot, on a cell of skips from 0 and 1 into every node."""
    wanted = (
        edge(0, 2, AVG),  # joins 0 and 2, as slot 0 does: takes its place
        edge(1, 3, "skip_connect"),  # is there already
        edge(2, 3, AVG),  # slot 2 holds (0, 3), which is not of the pattern
        edge(3, 4, AVG),  # slot 4
        edge(2, 4, AVG),  # slot 4 is of the pattern now: slot 5
    )
    after = rewrite(PLAIN, {"reduce": wanted}, 5)
    skip = "skip_connect"
    assert after.reduce.pairs == (
        (AVG, 0), (skip, 1), (AVG, 2), (skip, 1), (AVG, 3), (AVG, 2), (skip, 0), (skip, 1)
    )  # fmt: skip
    assert after.normal == PLAIN.normal
    assert changes(PLAIN, after) == 4
    assert rewrite(PLAIN, {"reduce": wanted}, 2).reduce.pairs == ((AVG, 0), *PAIRS[1:])
    assert rewrite(PLAIN, {"reduce": wanted}, 0) == PLAIN


def test_an_edge_of_the_pattern_is_not_thrown_out_by_a_later_one():
    """(1, 2) stands in slot 0 and is of the pattern; (0, 2) goes into slot 1."""
    pairs = (("skip_connect", 1), ("max_pool_3x3", 0), *PAIRS[2:])
    genotype = PLAIN.having("reduce", Cell(pairs))
    wanted = (edge(1, 2, "skip_connect"), edge(0, 2, AVG))
    after = rewrite(genotype, {"reduce": wanted}, 2)
    assert after.reduce.pairs[:2] == (("skip_connect", 1), (AVG, 0))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 8), st.sampled_from(["normal", "reduce", "dual"]))
def test_rewriting_keeps_to_its_budget_and_is_done_once(seed, budget, where):
    genotype, rng = cells(1, seed)[0], stream(seed, "importances")
    given = importances(*((e, float(rng.normal())) for e in every_edge()))
    kinds = ("normal", "reduce") if where == "dual" else (where,)
    patterns = {kind: pattern(given, kind, "demote") for kind in kinds}
    after = rewrite(genotype, patterns, budget)
    assert parse(str(after)) == after  # it is valid
    assert changes(genotype, after) <= budget * len(kinds)
    assert set().union(*(patterns[k][:budget] for k in kinds)) <= after.edges
    assert rewrite(after, patterns, budget).edges == after.edges
    for kind in {"normal", "reduce"} - set(kinds):
        assert after.cell(kind) == genotype.cell(kind)


def survey(n=60, **fields):
    known = cells(n)
    columns = {"genotype": [str(g) for g in known], "auc": [pooled(g) for g in known], **fields}
    return known, Split.of("survey", **columns)


def test_demotes_and_promotes(run):
    known, split = survey()
    risk = np.array([pooled(g) for g in known])
    # A cell without average pooling cannot be promoted, which is most of them.
    for direction, sign, least in (("demote", -1, 0.015), ("promote", 1, 0.005)):
        made = RewriteCells(direction, share=0.3, least=1)(split, run)
        after = [parse(text) for text in made.column("genotype").to_pylist()]
        moved = np.array([pooled(g) for g in after]) - risk
        assert sign * moved.mean() > least
        assert made.ids == split.ids
        assert made.matrix("edits").tolist() == [
            changes(a, b) for a, b in zip(known, after, strict=True)
        ]
        said = made.matrix("predicted_after") - made.matrix("predicted_before")
        assert np.corrcoef(said, moved)[0, 1] > 0.9
        assert "auc" not in made.columns, "it was not measured on the new cells"


def test_cells_without_an_auc_are_changed_and_teach_nothing(run):
    _, split = survey(40)
    extra = Split.of(
        "more",
        genotype=[*split.column("genotype").to_pylist(), str(PLAIN)],
        auc=[*split.column("auc").to_pylist(), None],
    )
    options = {"share": 0.3, "least": 1}
    alone, beside = RewriteCells(**options)(split, run), RewriteCells(**options)(extra, run)
    assert beside.column("genotype").to_pylist()[:40] == alone.column("genotype").to_pylist()
    last = parse(beside.column("genotype").to_pylist()[-1])
    assert sum(e.operation == AVG for e in last.edges) >= 2


def test_edges_a_line(run):
    _, split = survey(100)
    made = EdgeImportance(share=0.3, least=1)(split, run)
    table = made.records.to_pydict()
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    assert {row["set"] for row in rows} == {"most at risk", "least at risk"}
    low = [r for r in rows if r["set"] == "least at risk" and r["cell"] == "reduce"]
    pools = [r["importance"] for r in low if r["operation"] == AVG]
    others = [r["importance"] for r in low if r["operation"] != AVG]
    assert min(pools) > max(0, np.mean(others))
    # The demotion pattern of the reduction cell begins with average pooling, as was planted.
    first = sorted((r["pattern"], r["operation"]) for r in low if r["pattern"])[:4]
    assert [operation for _, operation in first] == [AVG] * 4
    patterns = Learning(0.3, 1).patterns(read_survey(split), "demote", "dual")
    assert sum(r["pattern"] > 0 for r in rows if r["set"] == "least at risk") == sum(
        map(len, patterns.values())
    )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"auc": None}, "no column 'auc'"),
        ({"genotype": None}, "no column 'genotype'"),
        ({"auc": [81.0] * 12}, "the AUC of cell 1 is 81.0"),
        ({"auc": ["high"] * 12}, "is 'high'"),
        ({"auc": [0.8] * 9 + [None] * 3}, "9 measured cells are too few"),
        ({"genotype": ["Genotype()"] * 12}, "record .*: the genotype has no normal cell"),
        ({"genotype": [None] * 12}, "record .*: .* is no genotype"),
    ],
)
def test_refuses_surveys_that_teach_nothing(columns, said, run):
    known = cells(12)
    given = {"genotype": [str(g) for g in known], "auc": [pooled(g) for g in known], **columns}
    ids = [f"cell-{i}" for i in range(12)]
    split = Split.of("survey", ids=ids, other=list(range(12)),
                     **{k: v for k, v in given.items() if v is not None})  # fmt: skip
    with pytest.raises(EngramError, match=said):
        RewriteCells(share=0.3, least=1)(split, run)


def test_reads_a_table_without_types(tmp_path, run):
    """In a CSV file numbers are text, and the only column of text is called so."""
    from engram import data

    known, split = survey(12)
    path = data.write(split, tmp_path / "cells.csv")
    again = data.read(str(path))
    found = read_survey(again)
    assert list(found.genotypes) == known
    np.testing.assert_allclose(found.risk, [pooled(g) for g in known])
    made = RewriteCells(share=0.3, least=1)(again, run)
    assert read_survey(data.read(str(data.write(split, tmp_path / "c.jsonl")))).risk.shape == (12,)
    assert len(made) == 12


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"budget": 9}, "the budget is 9"),
        ({"budget": -1}, "the budget is -1"),
        ({"share": 0.0}, "share is 0"),
        ({"share": 0.7}, "share is 0.7"),
        ({"least": 0}, "least is 0"),
    ],
)
def test_refuses_settings_that_make_no_sense(fields, said):
    with pytest.raises(EngramError, match=said):
        RewriteCells(**fields)


def test_refuses_changes_that_are_none():
    with pytest.raises(EngramError, match="direction is 'lower'"):
        check_plan("lower", "dual", 4)
    with pytest.raises(EngramError, match="where is 'reduction'"):
        check_plan("demote", "reduction", 4)


def test_no_two_pattern_edges_share_a_way():
    """A node is joined to another once, so a pattern can always be brought in whole."""
    predict = some_regressor(4)
    found = pattern(edge_importances(cells(40), predict), "reduce", "promote")
    after = rewrite(PLAIN, {"reduce": found}, 8)
    assert set(found) <= after.edges
    for one, other in combinations(found, 2):
        assert (one.source, one.node) != (other.source, other.node)

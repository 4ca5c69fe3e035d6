"""The pieces of the report: wording, charts, labels, shades, highlights."""
# ruff: noqa: RUF001

import doctest
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.core import EngramError, Finding
from engram.report import charts, labels, matching, page, svg, tokens, wording
from engram.report.document import Histogram, Roc, Token
from engram.report.pareto import Plotted, pareto

shares = st.floats(0, 1)


@pytest.mark.parametrize("module", [wording, svg, page])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (0.5, "0.500"), (12.345, "12.3"), (999.6, "1,000"), (1234567.0, "1,234,567"),
        (-3.14159, "−3.14"), (0.9996, "1.00"), (0.00012345, "0.000123"), (1e-9, "1.00 × 10⁻⁹"),
        (2e15, "2.00 × 10¹⁵"), (42, "42"), (0.1, "0.100"),
    ],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value, shown):
    assert wording.number(value) == shown


@given(st.floats(1e-4, 1e11))
def test_a_written_number_is_the_number_to_half_a_percent(value):
    read = float(wording.number(value).replace(",", ""))
    assert read == pytest.approx(value, rel=0.0051)


@given(shares)
def test_only_certainty_reads_as_certainty(value):
    shown = wording.ratio(value)
    if not 1e-6 < value < 1 - 1e-6:
        return
    assert float(shown) not in (0.0, 1.0)
    assert wording.percent(value) not in ("0 %", "100 %", "0.0 %", "100.0 %")


def test_intervals_are_written_like_their_values():
    rate = Finding("TPR@1%FPR", 0.24, 0.2, 0.285, 300)
    assert (wording.value_of(rate), wording.interval_of(rate)) == ("24.0 %", "[20.0, 28.5] %")
    rare = Finding("TPR@0.1%FPR", 0.0008, 0.0003, 0.0013, 13983)
    assert (wording.value_of(rare), wording.interval_of(rare)) == ("0.08 %", "[0.03, 0.13] %")
    auc = Finding("AUC", 0.5, 0.25, 1.0, 9)
    assert (wording.value_of(auc), wording.interval_of(auc)) == ("0.500", "[0.250, 1.000]")
    loss = Finding("gap", -14.0, -16.0, -12.5, 9, unit="nats")
    assert (wording.value_of(loss), wording.interval_of(loss)) == ("−14.0", "[−16.0, −12.5]")
    perplexity = Finding("perplexity", 124.31, 122.58, 125.84, 72)
    assert wording.value_of(perplexity) == "124.3", "as exact as its interval"
    assert wording.interval_of(perplexity) == "[122.6, 125.8]"
    assert wording.interval_of(Finding.exact("pairs", 3.0, 9)) == "exact"
    assert wording.value_of(Finding.missing("AUC", "no outsiders")) == "–"
    growth = Finding("growth rate", 3.5, 2.0, 5.0, 9)
    assert wording.value_of(growth) == "3.50", "a rate above 1 is no percentage"


@pytest.mark.parametrize(
    "found",
    [
        Finding("AUC", 1.0, 1.0, 1.0, 60), Finding("verbatim rate", 0.0, 0.0, 0.0, 60),
        Finding("ROUGE-L recall", 0.0, 0.0, 0.0, 60),
        Finding("mean exposure", 2.62, 2.62, 2.62, 60, unit="bits"),
    ],
)  # fmt: skip
def test_an_interval_without_width_tells_its_n(found):
    assert wording.interval_of(found) == "n = 60"


def test_reference_lines_and_units_are_named_in_the_figure():
    rows = [("a", Finding("AUC", 0.7, 0.6, 0.8, 9), 2)]
    drawn = charts.interval_rows("x", rows, (0.4, 0.9), 0.5, unit="AUC")
    assert ">chance</text>" in drawn
    assert ">AUC</text>" in drawn
    curves = charts.roc([charts.Curve("loss", CURVE, 2)], outsiders=20)
    assert ">guessing</text>" in curves
    assert "FPR below 1 in 20" in curves
    small = charts.distributions(
        Histogram((0.0, 1.0, 2.0), (1.0, 0.0), (0.0, 1.0)), "nats", "loss", (1, 1), small=True
    )
    assert ">score (nats)</text>" in small


def test_a_long_unit_stands_below_the_word_chance():
    rows = [("one", Finding("AUC", 0.7, 0.6, 0.8, 40), 2)]
    heights = {}
    for unit in ("AUC", "of outsiders score lower or as high"):
        drawn = charts.interval_rows("x", rows, (0.0, 1.0), 0.5, width=400, unit=unit)
        places = re.findall(r'<text x="[\d.]+" y="([\d.]+)"[^>]*>(chance|AUC|of outsiders)', drawn)
        heights[unit] = {word: float(y) for y, word in places}
    short, long = heights.values()
    assert abs(short["chance"] - short["AUC"]) < 2
    assert long["of outsiders"] - long["chance"] > 12


def test_chance_is_drawn_where_it_is_and_not_at_the_floor():
    found = [Finding("exposure", v, v - 0.5, v + 0.5, 9, unit="bits") for v in (2.0, 4.0)]
    useful = [Finding("perplexity", v, v - 1, v + 1, 9) for v in (20.0, 30.0)]
    points = [
        Plotted(name, x, y, series=n)
        for name, x, y, n in zip("ab", useful, found, (5, 9), strict=True)
    ]
    drawn = pareto("exposure (bits)", points, 0.0, chance=1.44)
    assert ">chance</text>" in drawn
    assert "chance" not in pareto("exposure (bits)", points, 0.0)
    assert all(f'class="dot{more} s{n}"' in drawn for more, n in (("", 5), (" hollow", 9)))


def test_ticks_are_round_and_within():
    assert svg.ticks(0.0, 10.0, 5) == (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    assert svg.ticks(-0.31, 0.42, 4) == (-0.2, 0.0, 0.2, 0.4)
    assert svg.ticks(5.0, 5.0) == (5.0,)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(1, 8))
def test_ticks_of_any_range(low, span, about):
    marks = svg.ticks(low, low + span, about)
    assert all(low - 1e-6 * span <= mark <= low + span + 1e-6 * span for mark in marks)
    assert len(marks) <= about + 2


def test_scales():
    linear = svg.Linear(0.0, 10.0, 100, 200)
    assert [linear(x) for x in (-5.0, 0.0, 2.5, 10.0, 99.0)] == [100, 100, 125, 200, 200]
    log = svg.Logarithmic(0.001, 1.0, 0, 300)
    assert [round(log(x)) for x in (0.0, 0.001, 0.01, 0.1, 1.0)] == [0, 0, 100, 200, 300]


def test_svg_escapes_text_and_attributes():
    drawn = svg.text(1.0, 2.0, "<b>&", class_='"x')
    assert drawn == '<text x="1" y="2" class="&#34;x">&lt;b&gt;&amp;</text>'


CURVE = Roc((0.0, 0.0, 0.005, 0.02, 0.02, 1.0), (0.0, 0.1, 0.2, 0.2, 0.5, 1.0))


def test_height_of_a_staircase():
    heights = [charts.tpr_at(CURVE, f) for f in (0.0, 0.001, 0.005, 0.01, 0.02, 0.5, 1.0)]
    assert heights == [0.1, 0.1, 0.2, 0.2, 0.5, 0.5, 1.0]


def test_roc_is_drawn_where_its_numbers_are():
    drawn = charts.roc([charts.Curve("loss", CURVE, 0)], outsiders=200)
    steps = re.search(r'd="M([^"]*)" class="curve s0"', drawn).group(1).split()
    points = list(zip(map(float, steps[::2]), map(float, steps[1::2]), strict=True))
    across, up = svg.Logarithmic(1e-3, 1.0, 64, 546), svg.Logarithmic(1e-3, 1.0, 378, 12)
    expected = [
        (0.001, 0.1), (0.005, 0.1), (0.005, 0.2), (0.02, 0.2), (0.02, 0.2), (0.02, 0.2),
        (0.02, 0.5), (1.0, 0.5), (1.0, 1.0),
    ]  # fmt: skip
    assert points == [
        (pytest.approx(across(f), abs=0.06), pytest.approx(up(t), abs=0.06)) for f, t in expected
    ]
    shade = re.search(r'd="M([^"]*)Z" class="shade"', drawn).group(1).split()
    assert float(shade[2]) == pytest.approx(across(1 / 200), abs=0.06)


def test_a_roc_below_the_lower_edge_is_no_error():
    flat = Roc((0.0, 0.5, 1.0), (0.0, 0.0, 0.0))
    assert "curve s0" not in charts.roc([charts.Curve("never", flat, 0)], outsiders=10)


@settings(deadline=None)
@given(st.lists(st.tuples(shares, shares), min_size=1, max_size=400), st.integers(20, 60))
def test_thinned_curve_has_the_same_height_wherever_it_has_a_point(steps, points):
    fpr, tpr = zip(*sorted(steps), strict=True)
    whole = Roc((*fpr, 1.0), tuple(sorted((*tpr, 1.0))))
    thinned = page.thin(whole, points)
    assert len(thinned.fpr) <= max(points, 1) or len(whole.fpr) <= points
    for f in thinned.fpr:
        assert charts.tpr_at(thinned, f) == charts.tpr_at(whole, f)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=90), st.integers(1, 50))
def test_rebinning_keeps_every_record(counts, bins):
    edges = tuple(float(k) for k in range(len(counts) + 1))
    few = page.rebin(Histogram(edges, tuple(map(float, counts)), tuple(map(float, counts))), bins)
    assert len(few.members) <= bins
    assert len(few.edges) == len(few.members) + 1
    assert sum(few.members) == sum(counts)
    assert (few.edges[0], few.edges[-1]) == (edges[0], edges[-1])


def test_intervals_are_drawn_where_their_numbers_are():
    rows = [("a", Finding("x", 5.0, 2.0, 8.0, 9), 0), ("b", Finding.missing("x", "why"), 1)]
    drawn = charts.interval_rows("x", rows, (0.0, 10.0), width=132)
    bar = re.search(r'<line x1="([\d.]+)" y1="28" x2="([\d.]+)" y2="28" class="bar s0"', drawn)
    assert [float(x) for x in bar.groups()] == [36.0, 96.0]
    assert 'cx="66"' in drawn
    assert drawn.count("bar s") == 1
    assert "not measured" in drawn


def test_labels_cover_neither_curves_nor_each_other():
    frame = labels.Box(0, 0, 500, 300)
    lines = [[(0.0, y), (500.0, y - 20)] for y in (250.0, 180.0, 110.0, 60.0)]
    names = ["loss", "zlib", "reference", "min-k"]
    spots = labels.place(names, lines, frame)
    boxes = [labels.Box(x, y - 11, x + 7.4 * len(n), y + 3)
             for n, (x, y) in zip(names, spots, strict=True)]  # fmt: skip
    for place, box in enumerate(boxes):
        assert box.within(frame)
        assert all(box.overlap(other) == 0 for other in boxes[:place])
        for line in lines:
            for x in range(int(box.left), int(box.right)):
                y = line[0][1] - 20 * x / 500
                assert not box.top < y < box.bottom
    assert labels.place(["none"], [[]], frame) == [None]


def test_shades_by_hand():
    reference = -5.0
    levels = [tokens.level(Token("a", reference + d, reference)) for d in
              (-4.5, -2.0, -1.2, -0.5, -0.4, 0.0, 0.49, 0.5, 1.0, 2.0, 4.0, 5.0)]  # fmt: skip
    assert levels == [-4, -3, -2, -1, 0, 0, 0, 1, 2, 3, 4, 4]
    alone = [tokens.level(Token("a", x, None)) for x in (-9.0, -2.0, -1.0, -0.3, -0.05, 0.0)]
    assert alone == [0, 1, 2, 3, 4, 4]
    assert tokens.level(Token("a", None, None)) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12))
def test_the_shown_stretch_gives_most_away(seed, length, limit):
    rng = random.Random(seed)
    record = [Token(f"t{k} ", -rng.random(), -3 * rng.random()) for k in range(length)]
    shaded = tokens.shade(record, limit)
    sums = [
        sum(t.logprob - t.reference for t in record[start : start + limit])
        for start in range(max(length - limit, 0) + 1)
    ]
    assert sums[shaded.before] == pytest.approx(max(sums))
    assert shaded.before + shaded.after + min(limit, length) == length
    assert re.findall(r">(t\d+) <", shaded.markup) == [
        t.text.strip() for t in record[shaded.before : shaded.before + limit]
    ]


def test_a_token_that_was_not_scored_has_no_shade():
    shaded = tokens.shade([Token("<b>", None, None), Token(" x", -1.0, -4.0)], 10)
    assert shaded.markup.startswith("<span>&lt;b&gt;</span><span class=k3 ")
    assert shaded.told == (("x", "20× likelier"),)


def test_the_tokens_of_a_word_are_added_up():
    rows = [("Dear", -1.0, -1.2), (" Gar", -1.0, -3.0), ("combe", -0.5, -2.0), (", ", -1.0, -1.1),
            ("of", -2.0, -1.0), (" Gar", -1.0, -1.0), ("\n", -0.1, -0.2)]  # fmt: skip
    shaded = tokens.shade([Token(*row) for row in rows], 99)
    # Garcombe and its comma: 2 + 1.5 + 0.1 nats, and e^3.6 is 37; Dear has 0.2, under the limit.
    assert shaded.told == (("Garcombe,", "37× likelier"),)


@pytest.mark.parametrize(
    ("generated", "truth", "shown"),
    [
        ("born 3 May 1961.", "born 3 May 1961.", "<mark>born 3 May 1961.</mark>"),
        (" was 4471-208, and", "is 4471-208.", " was <mark>4471-208</mark>, and"),
        ("the a of", "the b of", "the a of"),
        ("<b>secret</b>", "secret", "&lt;b&gt;<mark>secret</mark>&lt;/b&gt;"),
        ("", "anything", ""),
    ],
)
def test_what_repeats_the_truth_is_marked(generated, truth, shown):
    assert str(matching.marked(generated, truth)) == shown


@given(st.text(max_size=60), st.text(max_size=60))
def test_marking_changes_no_text(generated, truth):
    pieces = list(matching.runs(generated, truth))
    assert "".join(piece for piece, _ in pieces) == generated
    assert all(piece in truth for piece, repeated in pieces if repeated)


class TestPictures:
    """Records that are pictures, drawn without loading anything."""

    def test_pixels_become_squares_of_sixteen_shades(self):
        from engram.report.pictures import Picture, drawn

        found = drawn(Picture(2, 3, "000000" * 2 + "ffffff" + "0a0a0a" + "808080" * 2), "r <1>")
        # 0a is nearest to 11 (17): runs of one shade are one piece.
        assert 'd="M0 0h2v1h-2z" fill="#000000"' in found
        assert 'd="M2 0h1v1h-1z" fill="#ffffff"' in found
        assert 'd="M0 1h1v1h-1z" fill="#111111"' in found
        assert 'd="M1 1h2v1h-2z" fill="#888888"' in found
        assert "r &lt;1&gt;" in found
        assert found.count("<path") == 4

    @pytest.mark.parametrize(
        ("height", "pixels", "what"),
        [(1, "00", "six hexadecimal digits"), (1, "zz0000", "six hexadecimal"), (0, "", "a side")],
    )
    def test_other_pictures_are_refused(self, height, pixels, what):
        from engram.report.document import Node
        from engram.report.pictures import Picture

        with pytest.raises(EngramError, match=what):
            Picture.of(Node({"height": height, "width": 1, "pixels": pixels}, "here"))

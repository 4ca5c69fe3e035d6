"""Colours: enough contrast in every theme, told apart without full sight, and from one place."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import engram
from engram.report.palette import (
    DASHES,
    FIRST,
    HUES,
    KNOWN,
    MEMBERS,
    OUTSIDERS,
    SHEET,
    THEMES,
    contrast,
    figure_style,
    palette,
    style,
    styles,
)

HOME = Path(engram.__file__).parent
STUDIES = HOME.parents[1] / "studies"
SERIES = [f"s{n}" for n in range(8)]
TEXT, LINE = 4.5, 3.0
"""WCAG 2.1 AA: contrast of text, and of what must be seen to understand a picture."""
BATTERY = ("loss", "zlib", "lowercase", "min-k", "min-k-plus-plus", "reference")
BLIND = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}
"""Machado et al. (2009), severity 1, on linear red, green and blue."""

pytestmark = pytest.mark.parametrize("theme", THEMES)


def linear(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear RGB under D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    ratio = np.array(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def mixed(colour, with_, share):
    """`color-mix(in srgb, colour share, with_)`."""
    one, other = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (colour, with_))
    return "#" + "".join(f"{round(x):02x}" for x in one * share + other * (1 - share))


def test_text_can_be_read(theme):
    has = palette(theme)
    grounds = ("paper", "card")
    pairs = [(role, on) for role in ("ink", "soft", "accent") for on in grounds]
    pairs += [(role, f"{role}-wash") for role in ("leak", "fine", "doubt", "open")]
    pairs += [(role, on) for role in ("leak", "fine", "doubt", "open") for on in grounds]
    pairs += [("ink", "wash"), ("mark-ink", "mark"), ("k4-ink", "k4"), ("u4-ink", "u4")]
    pairs += [("ink", f"{side}{step}") for side in "ku" for step in (1, 2, 3)]
    poor = {p: round(contrast(has[p[0]], has[p[1]]), 2) for p in pairs
            if contrast(has[p[0]], has[p[1]]) < TEXT}  # fmt: skip
    assert not poor


def test_lines_can_be_seen_and_their_labels_read(theme):
    has = palette(theme)
    assert not {s for s in SERIES if contrast(has[s], has["card"]) < LINE}
    labels = {s: contrast(mixed(has[s], has["ink"], 0.82), has["card"]) for s in SERIES}
    assert not {s: round(c, 2) for s, c in labels.items() if c < TEXT}


@pytest.mark.parametrize("sight", ["full", *BLIND])
def test_the_two_sides_and_all_things_differ_for_everybody(theme, sight):
    """A difference of 20 in CIELAB is seen at once; each hue has four kinds of line besides."""
    has, seen = palette(theme), np.array(BLIND.get(sight, np.eye(3)))
    shown = {s: lab(seen @ linear(has[s])) for s in SERIES}
    for group in (SERIES[:2], SERIES[2:]):
        for one, other in combinations(group, 2):
            assert np.linalg.norm(shown[one] - shown[other]) > 20, (one, other)


def test_a_thing_looks_alike_wherever_it_is_drawn(theme):
    """By its name alone, never the colour of a side; every style has a hue in the sheet."""
    several = (*KNOWN, "mine", "yours", "a" * 300, "\ud800", "")
    assert {style(name) for name in several} <= set(range(FIRST, FIRST + HUES * DASHES))
    assert len({style(name) for name in KNOWN}) == len(KNOWN)
    for battery in (BATTERY, ("loss", "ratio"), ("loss", "likelihood-ratio", "lira", "rmia"),
                    ("loss", "node-membership", "posterior-attack")):  # fmt: skip
        assert len({style(name) % HUES for name in battery}) == len(battery), battery
    sheet = SHEET.read_text("utf-8")
    for number in range(FIRST, FIRST + HUES * DASHES):
        hue = FIRST + (number - FIRST) % HUES
        assert re.search(rf"\.s{number}\b[^{{}}]*\{{ --c: var\(--s{hue}\); \}}", sheet), number


@pytest.mark.parametrize("n", [2, 6, 12, 30])
def test_models_that_are_compared_share_no_hue_while_one_is_free(theme, n):
    names = [f"model-{k}" for k in range(n)]
    found = styles(names)
    assert len(set(found)) == min(n, HUES * DASHES)
    assert len({one % HUES for one in found}) == min(n, HUES)
    assert styles(names[::-1]) == found[::-1], "their order does not matter"
    assert styles([names[0]]) == (style(names[0]),)


def test_sides_have_the_same_colours_everywhere(theme):
    sheet = SHEET.read_text("utf-8")
    assert f".{MEMBERS}, .members {{ --c: var(--{MEMBERS}); }}" in sheet
    assert f".{OUTSIDERS}, .outsiders {{ --c: var(--{OUTSIDERS}); }}" in sheet
    assert palette(theme)[MEMBERS] != palette(theme)[OUTSIDERS]


def test_every_role_has_a_colour_in_every_theme(theme):
    used = set(re.findall(r"var\(--([\w-]+)\)", SHEET.read_text("utf-8"))) - {"c"}
    assert used <= set(palette(theme)), used - set(palette(theme))


def test_colours_stand_in_the_palette_alone(theme):
    """No colour in code, templates or studies, and in the style sheet only where roles get one."""
    colour = re.compile(
        r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b(?![^<]*</a>)|\brgba?\(|\bhsla?\(|"
        r"(?:fill|stroke|color)\s*[:=]\s*[\"']?(?:black|white|red|green|blue|gr[ae]y|orange)\b"
    )
    places = [p for folder in ("report", "engine", "cli") for p in (HOME / folder).rglob("*.*")]
    places += STUDIES.glob("*/*.py") if STUDIES.is_dir() else []
    for path in places:
        if path.suffix not in (".py", ".j2", ".css") or path.name == "palette.py":
            continue
        text = path.read_text("utf-8")
        if path == SHEET:
            text = re.sub(r":root\s*\{[^}]*\}", "", text)
        found = [hit.group() for hit in colour.finditer(text) if not hit.group().isdigit()]
        assert not found, f"{path}: {found}"


def test_a_figure_is_readable_where_it_stands_alone(theme):
    has = palette("dark" if theme == "dark" else "light")
    assert has["soft"] in figure_style()
    ground = "#0d1117" if theme == "dark" else "#ffffff"
    assert contrast(has["soft"], ground) > TEXT

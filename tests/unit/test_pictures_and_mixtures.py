"""Mixtures of protected and clean records, pictures in reports, and figures of studies."""

import base64
import io
import zlib
from dataclasses import replace

import numpy as np
import pytest

from engram.core import EngramError, Split, stream
from engram.engine.pictures import drawing
from engram.engine.study.figures import captions, write_figures
from engram.engine.study.files import Place
from engram.parts.mixing import mixed
from engram.parts.origins import origins_of
from engram.parts.victims import VICTIMS, fields_of
from engram.report.picture_rows import amplified, picture_rows, png


def two_versions(n=10):
    rng = np.random.default_rng(0)
    clean = Split.of(
        "clean", features=rng.random((n, 4), np.float32), label=np.arange(n) % 2,
        owners=[f"o{k}" for k in range(n)],
    )  # fmt: skip
    moved = Split.of("moved", features=clean.matrix("features") / 2, label=clean.matrix("label"))
    return clean, replace(moved, ids=clean.ids, owners=clean.owners)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_every_record_stands_in_one_version_and_names_its_original(share):
    from engram.parts.origins import with_origins

    clean, moved = two_versions()
    moved = with_origins(moved, [(digest,) for digest in clean.digests])
    both, kept = mixed(clean, moved, share, stream(0))
    assert (both.ids, both.owners) == (clean.ids, clean.owners)
    changed = (both.matrix("features") != clean.matrix("features")).any(1)
    assert changed.sum() == round(10 * share)
    assert list(kept.ids) == [i for i, c in zip(clean.ids, changed, strict=True) if not c]
    assert origins_of(both) == [frozenset({digest}) for digest in clean.digests]


def test_versions_of_other_records_are_refused():
    clean, moved = two_versions()
    with pytest.raises(EngramError, match="does not hold the records of 'clean'"):
        mixed(clean, moved.reversed(), 0.5, stream(0))
    with pytest.raises(EngramError, match=r"share is 1\.5"):
        mixed(clean, moved, 1.5, stream(0))


def test_victims_take_training_settings_where_they_are_trained():
    recipe, fields = fields_of("mlp", epochs=3, width=5)
    assert (recipe, fields["width"], fields["epochs"]) == ("train-classifier", 5, 3)
    assert fields_of("rbf-svm", epochs=3) == ("fit-estimator", {"estimator": "rbf-svm"})
    assert {"mlp", "cnn", "resnet", "rbf-svm", "1-nn"} <= set(VICTIMS)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_every_pixel(channels):
    rng = np.random.default_rng(1)
    picture = rng.random((3, 5, channels))
    head, _, body = png(picture).partition(",")
    assert head == "data:image/png;base64"
    raw = base64.b64decode(body)
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    place, found = 8, {}
    while place < len(raw):
        size = int.from_bytes(raw[place : place + 4], "big")
        name, data = raw[place + 4 : place + 8], raw[place + 8 : place + 8 + size]
        assert int.from_bytes(raw[place + 8 + size : place + 12 + size], "big") == zlib.crc32(
            name + data
        )
        found[name] = data
        place += 12 + size
    assert list(found) == [b"IHDR", b"IDAT", b"IEND"]
    rows = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(3, -1)
    assert not rows[:, 0].any()  # no filter
    expected = np.rint(picture * 255).astype(np.uint8)
    np.testing.assert_array_equal(rows[:, 1:].reshape(3, 5, channels), expected)


def test_pillow_reads_it_too():
    image = pytest.importorskip("PIL.Image", reason="Pillow (extra vision) is not installed")
    picture = np.linspace(0, 1, 12).reshape(2, 2, 3)
    raw = base64.b64decode(png(picture).partition(",")[2])
    found = np.asarray(image.open(io.BytesIO(raw)))
    np.testing.assert_array_equal(found, np.rint(picture * 255).astype(np.uint8))


def test_a_change_is_amplified_around_grey():
    before = np.full((1, 3, 1), 0.5)
    after = before + np.array([0.01, -0.02, 0.0]).reshape(1, 3, 1)
    np.testing.assert_allclose(amplified(before, after).ravel(), [0.75, 0.0, 0.5])
    np.testing.assert_array_equal(amplified(before, before), before)


def test_rows_of_pictures_have_names_and_a_description():
    picture = np.zeros((2, 2, 1))
    drawn = picture_rows("<Digits>", [("original", [picture, picture]), ("protected", [picture])])
    assert drawn.count("<image") == 3
    assert "&lt;Digits&gt;" in drawn
    assert "original: 2 pictures; protected: 1 pictures" in drawn


def test_figures_are_written_once_and_shown_with_their_captions(tmp_path):
    from xml.etree import ElementTree

    place = Place("some-study", tmp_path, "text", "plan")
    drawn = str(picture_rows("What is shown", [("a", [np.zeros((2, 2, 1))])]))
    write_figures(place, "small", {"old-one": drawn})
    write_figures(place, "small", {"pictures": drawn})
    write_figures(place, "full", {"pictures": drawn})
    (path,) = captions(place, "small")
    assert path.name == "small-pictures.svg"
    assert captions(place, "small")[path] == "What is shown"
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert path.read_text().startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    with pytest.raises(EngramError, match="not an SVG text"):
        write_figures(place, "small", {"pictures": "<html>"})
    with pytest.raises(EngramError, match="not an SVG text"):
        write_figures(place, "small", {"../up": drawn})


def test_a_transform_shows_what_it_did():
    clean, moved = two_versions()
    shown = drawing(clean, moved, "some-noise")
    assert shown.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "&lt;" not in shown
    assert shown.count("<image") == 30
    assert "original: 10 pictures; change: 10 pictures; some-noise: 10 pictures" in shown
    made = drawing(clean, Split.of("made", features=moved.matrix("features")), "some-noise")
    assert made.count("<image") == 10
    with pytest.raises(EngramError, match="no pictures to show"):
        drawing(clean, Split.of("texts", text=["a"]), "some-noise")

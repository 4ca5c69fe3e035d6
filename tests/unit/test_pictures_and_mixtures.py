"""Mixtures of protected and clean records, pictures in reports, and figures of studies."""

import base64
import io
import re
import runpy
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engram.core import EngramError, Split, stream
from engram.engine.pictures import drawing
from engram.engine.study.figures import captions, write_figures
from engram.engine.study.files import Place
from engram.parts.mixing import mixed
from engram.parts.origins import origins_of
from engram.parts.victims import VICTIMS, fields_of
from engram.report.document import parse
from engram.report.page import render
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
    assert "original: 10 pictures; change x " in shown
    assert "10 of 10 pictures were changed by some-noise" in shown
    made = drawing(clean, Split.of("made", features=moved.matrix("features")), "some-noise")
    assert made.count("<image") == 10
    with pytest.raises(EngramError, match="no pictures to show"):
        drawing(clean, Split.of("texts", text=["a"]), "some-noise")
    with pytest.raises(EngramError, match="2 features for some of 4"):
        drawing(clean, replace(Split.of("few", features=np.zeros((10, 2), np.float32)),
                               ids=clean.ids), "some-noise")  # fmt: skip


def digits(n):
    rng = np.random.default_rng(1)
    return Split.of(
        "digits", features=rng.random((n, 16), np.float32).round(2), label=np.arange(n) % 3,
        shared={"image_shape": np.array([4, 4]), "classes": np.array(["one", "two", "six"])},
    )  # fmt: skip


def pictures_in(shown):
    """The rows of a drawing: each picture's pixels from 0 to 255."""
    rows = {}
    for one in re.findall("<image[^>]*>", shown):
        (y,), (data,) = re.findall(r' y="([\d.]+)"', one), re.findall('base64,([^"]+)"', one)
        raw = base64.b64decode(data)
        start = raw.index(b"IDAT")
        size = int.from_bytes(raw[start - 4 : start], "big")
        lines = np.frombuffer(zlib.decompress(raw[start + 4 : start + 4 + size]), np.uint8)
        rows.setdefault(float(y), []).append(lines.reshape(4, -1)[:, 1:])
    return [rows[y] for y in sorted(rows)]


def test_a_poisoned_record_is_shown_before_those_that_were_left_alone(run):
    from engram.methods.transforms.plant_trigger import PlantTrigger

    clean = digits(60)
    planted = PlantTrigger(share=0.1, side=1, margin=0)(clean, run)
    shown = drawing(clean, planted, "plant-trigger")
    original, change, published, trigger, pasted = pictures_in(shown)
    count = int((planted.matrix("features") != clean.matrix("features")).any(1).sum())
    assert f"{count} of 60 pictures were changed" in shown
    assert len(original) == len(change) == len(published) == min(count, 10)
    assert all(picture[3, 3] == 255 for picture in [*published, *trigger, *pasted])
    assert all((picture.ravel()[:-1] == 128).all() for picture in change)
    assert "two \u2192 one" in shown
    assert "is class one" in shown


def test_one_factor_holds_for_all_changes_and_is_told():
    clean = digits(4)
    features = clean.matrix("features").copy()
    features[:, 0] = np.clip(features[:, 0] - 0.01, 0, 1)
    features[2, 1] = features[2, 1] - 0.2 if features[2, 1] > 0.5 else features[2, 1] + 0.2
    moved = replace(Split.of("moved", features=features, label=clean.matrix("label"),
                             shared=dict(clean.shared)), ids=clean.ids)  # fmt: skip
    shown = drawing(clean, moved, "some-noise")
    (factor,) = set(re.findall(r"drawn ([\d.]+) times as large", shown))
    assert float(factor) == pytest.approx(2.5, abs=0.11)
    _, change, _ = pictures_in(shown)
    assert change[0][0, 0] == pytest.approx(127.5 - 255 * 0.01 * float(factor), abs=1)
    assert f">change x {factor}<" in shown


def test_distilled_pictures_are_shown_by_class():
    made = replace(digits(9), ids=tuple(f"new-{n}" for n in range(9)))
    shown = drawing(digits(9), made, "distil-kernel")
    assert [len(row) for row in pictures_in(shown)] == [3, 3, 3]
    assert all(f"class {name}<" in shown for name in ("one", "two", "six"))


def test_the_report_shows_what_a_model_was_trained_on(run):
    from engram.engine.pictures import trained_pictures
    from engram.methods.transforms.plant_trigger import PlantTrigger
    from engram.methods.transforms.random_noise import RandomNoise

    clean = digits(60)
    assert trained_pictures(clean) == []
    noisy, planted = RandomNoise()(clean, run), PlantTrigger(share=0.1)(clean, run)
    assert [row["name"] for row in trained_pictures(noisy)] == ["protected, 60 of 60"]
    poisoned, trigger = trained_pictures(planted)
    assert poisoned["name"].startswith("poisoned, ")
    assert trigger["name"] == "the trigger of class one"
    assert len(trigger["pictures"]) == 1
    assert set(trigger["pictures"][0]["pixels"]) <= set("0f")


def test_pictures_of_the_training_data_stand_in_the_page_as_pictures_alone():
    made = runpy.run_path(str(Path(__file__).with_name("report_documents.py")))
    document = made["audit"]()
    grey = {"height": 2, "width": 2, "pixels": "7f7f7f" * 4}
    document["pictures"] = [{"name": "<b>protected</b>", "pictures": [grey]}]
    page = render(parse(document))
    assert "Pictures that it was trained on" in page
    assert "&lt;b&gt;protected&lt;/b&gt;" in page
    document["pictures"][0]["pictures"][0] = {**grey, "pixels": "<script>"}
    with pytest.raises(EngramError, match="six hexadecimal digits"):
        render(parse(document))

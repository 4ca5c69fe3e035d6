"""Pictures in records, and picture files that a list from outside names."""

import numpy as np
import pyarrow as pa
import pytest

from engram.core import EngramError, Split, stream
from engram.parts.image_files import inside, open_image
from engram.parts.images import as_rgb, image_columns, images_of, jittered

RED = np.zeros((2, 3, 3), np.uint8)
RED[..., 0] = 255


def of(image, **more):
    return Split.from_table("s", pa.table({"image": image, **more}))


def test_every_way_to_write_a_picture_gives_the_same_bytes():
    nested = [[[255, 0, 0]] * 3] * 2
    flat = RED.reshape(-1).tolist()
    shape = pa.array([[2, 3, 3]], pa.list_(pa.int32()))
    ways = [
        of(pa.array([nested])),
        of(pa.array([np.divide(nested, 255.0).tolist()])),
        of(pa.array([flat]), image_shape=shape),
        Split.of("s", image=RED.reshape(1, -1), n=[1], shared={"image_shape": np.array([2, 3, 3])}),
        Split.from_table("s", pa.table(image_columns([RED]))),
    ]
    for split in ways:
        (found,) = images_of(split)
        np.testing.assert_array_equal(found, RED)


def test_grey_values_stand_in_all_channels():
    grey = np.array([[0.0, 0.5], [1.0, 0.2]])
    found = as_rgb(grey, "r")
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(found[..., 0], [[0, 128], [255, 51]])
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


@pytest.mark.parametrize(
    ("image", "more", "told"),
    [
        (pa.array([[[0.1, float("nan")]]]), {}, "not a number"),
        (pa.array([[[0.1, float("inf")]]]), {}, "not a number"),
        (pa.array([[[0, 256]]]), {}, "beyond 0 to 255"),
        (pa.array([[[-0.1, 0.5]]]), {}, "beyond 0 to 1"),
        (pa.array([[[1, 2], [3]]]), {}, "unequal length"),
        (pa.array([[[1, None]]]), {}, "unequal length, or a pixel is missing|not a number"),
        (pa.array([[1, 2, 3, 4]]), {}, "nothing says its height"),
        (pa.array([[1, 2, 3, 4]]), {"image_shape": [[3, 2]]}, r"4 numbers, but .* \[3, 2\]"),
        (pa.array([[1, 2, 3, 4]]), {"image_shape": [[-2, -2]]}, r"image_shape is \[-2, -2\]"),
        (pa.array([[[[1, 2]]]]), {}, r"the shape \(1, 1, 2\)"),
        (pa.array([None, [[1]]]), {}, "has no image"),
        (pa.array(["a.png"]), {}, "not lists of numbers"),
        (pa.array([[["x"]]]), {}, "not lists of numbers"),
    ],
)
def test_what_is_no_picture_is_named(image, more, told):
    with pytest.raises(EngramError, match=told):
        images_of(of(image, **more))


def test_records_without_pictures_are_named():
    with pytest.raises(EngramError, match="no column 'image'; it has text"):
        images_of(Split.of("s", text=["a"]))


def test_neighbours_keep_shape_and_ids_and_change_little():
    split = Split.from_table("s", pa.table(image_columns([np.full((4, 4), 128, np.uint8)] * 3)))
    near = jittered(split, 0.1, stream(0, "near"))
    assert near.ids == split.ids
    for old, new in zip(images_of(split), images_of(near), strict=True):
        assert old.shape == new.shape
        assert 0 < np.abs(old.astype(int) - new.astype(int)).mean() < 20


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "red.ppm").write_bytes(b"P6\n# made here\n3 2\n255\n" + RED.tobytes())
    (tmp_path / "in" / "grey.pgm").write_bytes(b"P5 2 1 255\n\x00\xff")
    (tmp_path / "secret.ppm").write_bytes(b"P6 1 1 255\n\x01\x02\x03")
    return tmp_path / "in"


def test_portable_maps_are_read(folder):
    np.testing.assert_array_equal(open_image(inside(folder, "red.ppm")), RED)
    grey = open_image(inside(folder, "grey.pgm"))
    np.testing.assert_array_equal(grey[..., 1], [[0, 255]])


@pytest.mark.parametrize(
    "name",
    [
        "../secret.ppm",
        "a/../../secret.ppm",
        "/etc/passwd",
        "..\\secret.ppm",
        "C:\\secret.ppm",
        "",
        "red.ppm\x00.png",
    ],
)
def test_paths_that_lead_out_of_the_folder_are_refused(folder, name):
    with pytest.raises(EngramError, match="not named inside"):
        inside(folder, name)


def test_links_that_lead_out_of_the_folder_are_refused(folder):
    (folder / "link.ppm").symlink_to(folder.parent / "secret.ppm")
    with pytest.raises(EngramError, match="leads out"):
        inside(folder, "link.ppm")


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("cut.ppm", b"P6 3 2 255\n\x00\x01", "3 x 2 pixels, but holds 2 bytes"),
        ("huge.ppm", b"P6 999999999 999999999 255\n\x00", "999999999 x 999999999"),
        ("text.ppm", b"hello", "no binary portable map"),
        ("deep.pgm", b"P5 1 1 65535\n\x00\x00", "no binary portable map"),
        ("a.svg", b"<svg/>", "no kind of picture"),
    ],
)
def test_damaged_pictures_are_named(folder, name, raw, told):
    (folder / name).write_bytes(raw)
    with pytest.raises(EngramError, match=told):
        open_image(folder / name)


def test_a_missing_picture_is_named(folder):
    with pytest.raises(EngramError, match=r"no picture .*gone\.ppm"):
        inside(folder, "gone.ppm")


def test_other_pictures_are_read_by_pillow(folder):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    image.fromarray(RED).save(folder / "red.png")
    np.testing.assert_array_equal(open_image(inside(folder, "red.png")), RED)
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n????")
    with pytest.raises(EngramError, match="cannot be read as a picture"):
        open_image(folder / "bad.png")

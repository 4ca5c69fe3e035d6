"""Folders of pictures: what is read of them, what is refused, and pictures written to a folder."""

import csv
import os
import re
import struct
import zlib

import numpy as np
import pytest

from engram import data
from engram.core import EngramError, Split
from engram.data import pictures as reading
from engram.engine.train import anchored
from engram.parts.image_files import pixels_of
from engram.parts.protection import Budget

Image = pytest.importorskip("PIL.Image", reason="Pillow (extra vision) is not installed")
RNG = np.random.default_rng(5)
RED = np.zeros((4, 4, 3), np.uint8) + np.array([200, 10, 30], np.uint8)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(pixels, path, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **more)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two grey pictures of 4 x 6 in each of two classes."""
    home = tmp_path / "pictures"
    for number, name in enumerate(("cat/1.png", "cat/2.bmp", "dog/1.tiff", "dog/2.png")):
        save(noise(4, 6, seed=number), home / name)
    return home


# ---- what is read


def test_the_class_is_the_folder_and_the_pixels_go_from_0_to_1(folder):
    split = data.read(folder)
    wanted = np.stack([noise(4, 6, seed=n).reshape(-1) for n in range(4)])
    np.testing.assert_array_equal(split.matrix(), wanted / np.float32(255))
    assert split.matrix().dtype == np.float32
    assert split.matrix("label").tolist() == [0, 0, 1, 1]
    assert split.shared["classes"].tolist() == ["cat", "dog"]
    assert split.shared["image_shape"].tolist() == [4, 6]
    assert split.name == "pictures"
    assert list(split.ids) == list(split.digests)


def test_colours_stand_last(tmp_path):
    save(RED, tmp_path / "3" / "a.png")
    save(noise(4, 4, 3), tmp_path / "12" / "b.webp", lossless=True)
    split = data.read(tmp_path)
    assert split.shared["image_shape"].tolist() == [4, 4, 3]
    assert split.matrix("label").tolist() == [12, 3]
    assert "classes" not in split.shared
    np.testing.assert_array_equal(split.matrix()[1] * 255, RED.reshape(-1))
    np.testing.assert_array_equal(split.matrix()[0] * 255, noise(4, 4, 3).reshape(-1))


def test_hidden_files_and_texts_are_passed_over(folder):
    whole = data.read(folder)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "README.txt").write_text("hello")
    (folder / "cat" / "._1.png").write_bytes(b"x")
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "__MACOSX").mkdir()
    assert data.read(folder).fingerprint == whole.fingerprint


def test_an_empty_folder_is_a_class_and_classes_can_be_named(folder):
    (folder / "cow").mkdir()
    split = data.read(folder)
    assert split.shared["classes"].tolist() == ["cat", "cow", "dog"]
    assert split.matrix("label").tolist() == [0, 0, 2, 2]
    (folder / "cow").rmdir()
    named = data.read(f"{folder}?classes=dog,cow,cat")
    assert named.matrix("label").tolist() == [2, 2, 0, 0]
    with pytest.raises(EngramError, match="of the class 'dog'"):
        data.read(f"{folder}?classes=cat,cow")


def test_the_limit_takes_a_sample_and_ids_may_be_paths(folder):
    split = data.read(f"{folder}?ids=path")
    assert list(split.ids) == ["cat/1.png", "cat/2.bmp", "dog/1.tiff", "dog/2.png"]
    few = data.read(f"{folder}?ids=path", limit=2)
    assert set(few.ids) < set(split.ids)
    assert few.digests == split.select(few.ids).digests


def test_the_options_of_a_folder_survive_another_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert anchored("pictures?size=2") == f"{folder.resolve()}?size=2"
    assert anchored("demo:letters?n=3") == "demo:letters?n=3"
    assert len(data.read(anchored("pictures?size=2"))) == 4


def test_size_takes_the_mean_and_channels_convert(folder):
    split = data.read(f"{folder}?size=2x3&channels=3")
    assert split.shared["image_shape"].tolist() == [2, 3, 3]
    mean = noise(4, 6, seed=0).reshape(2, 2, 3, 2).mean((1, 3))
    found = split.matrix()[0].reshape(2, 3, 3) * 255
    assert np.abs(found - mean[:, :, None]).max() <= 1 + 1e-4  # rounded along either side
    larger = data.read(f"{folder}?size=9")
    assert larger.matrix().shape == (4, 81)


def test_labels_csv_names_files_owners_and_ids(tmp_path):
    for number in range(3):
        save(noise(4, 4, seed=number), tmp_path / f"{number}.png")
    (tmp_path / "labels.csv").write_text(
        "file,label,owner,id\n2.png,dog,ann,c\n0.png,cat,bob,a\n1.png,dog,ann,b\n"
    )
    split = data.read(tmp_path)
    assert list(split.ids) == ["c", "a", "b"]
    assert split.owners == ("ann", "bob", "ann")
    assert split.matrix("label").tolist() == [1, 0, 1]
    np.testing.assert_array_equal(split.matrix()[0] * 255, noise(4, 4, seed=2).reshape(-1))
    assert data.read(tmp_path, owner_column="label").owners == ("dog", "cat", "dog")


def test_metadata_as_imagefolder_has_it(folder):
    rows = [f'{{"file_name": "{n}", "owner": "o", "text": "a cat"}}\n' for n in
            ("dog/2.png", "cat/1.png", "cat/2.bmp", "dog/1.tiff")]  # fmt: skip
    (folder / "metadata.jsonl").write_text("".join(rows))
    split = data.read(folder)
    assert split.matrix("label").tolist() == [1, 0, 0, 1]
    assert split.columns == ("features", "label")
    assert set(split.owners) == {"o"}


def test_pictures_without_classes_are_records_too(tmp_path):
    save(RED, tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,caption\na.png,red\n")
    assert data.read(tmp_path).columns == ("features",)


def test_exif_orientation_is_obeyed(tmp_path):
    pixels = noise(3, 5)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by a quarter to see it upright
    for name in ("a.png", "b.tiff", "c.webp"):
        more = {"lossless": True} if name.endswith("webp") else {}
        path = save(pixels, tmp_path / "c" / name, exif=exif, **more)
        np.testing.assert_array_equal(pixels_of(path)[:, :, 0], np.rot90(pixels, -1))
    Image.fromarray(pixels).save(tmp_path / "c" / "d.tiff", exif=exif, compression="tiff_lzw")
    np.testing.assert_array_equal(
        pixels_of(tmp_path / "c" / "d.tiff")[:, :, 0], np.rot90(pixels, -1)
    )
    assert data.read(f"{tmp_path}?channels=1").shared["image_shape"].tolist() == [5, 3]


def test_palettes_bits_and_full_opacity_are_read(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)[noise(4, 4) % 2]
    Image.fromarray(colours).quantize(2).save(tmp_path / "p.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "p.png"), colours)
    opaque = np.concatenate([RED, np.full((4, 4, 1), 255, np.uint8)], axis=2)
    np.testing.assert_array_equal(pixels_of(save(opaque, tmp_path / "o.png")), RED)
    Image.fromarray(noise(4, 4) > 99).save(tmp_path / "b.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "b.png")[:, :, 0], 255 * (noise(4, 4) > 99))


def test_what_is_transparent_is_laid_on_white_only_when_asked(tmp_path):
    clear = np.concatenate([RED, np.zeros((4, 4, 1), np.uint8)], axis=2)
    path = save(clear, tmp_path / "c" / "a.png")
    with pytest.raises(EngramError, match="is transparent in places"):
        data.read(tmp_path)
    assert (pixels_of(path, channels=3) == 255).all()
    assert (data.read(f"{tmp_path}?channels=1").matrix() == 1).all()


# ---- what is refused


def refused(source, match, **more):
    with pytest.raises(EngramError, match=match) as caught:
        data.read(source, **more)
    assert caught.value.hint
    return caught.value.hint


def test_pictures_that_are_not_alike_are_counted(folder):
    save(noise(8, 8, 3), folder / "dog" / "3.png")
    hint = refused(folder, r"4 are 4 x 6 grey, 1 are 8 x 8 colour")
    source = re.search(r"'(.*)'", hint)[1]
    assert source == f"{folder}?size=4x6&channels=1"
    assert len(data.read(source)) == 5
    assert "?channels=1&size=4x6'" in refused(f"{folder}?channels=1", "not alike")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("size=0", "the option size is '0'"),
        ("size=2x3x4", "one number, or HEIGHTxWIDTH"),
        ("size=99999", "from 1 to 4096"),
        ("channels=2", "no 2 channels"),
        ("classes=a,a", "named twice"),
        ("ids=x", "content or path"),
        ("colour=1", "has no option 'colour'"),
    ],
)
def test_options_are_checked(folder, options, match):
    refused(f"{folder}?{options}", match)


def test_options_are_for_pictures_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    refused(f"{tmp_path / 'a.jsonl'}?size=2", "takes no options")


def test_damaged_files_and_texts_are_named(folder):
    path = folder / "cat" / "3.png"
    path.write_text("I am a text")
    refused(folder, "3.png cannot be read as a picture")
    path.write_bytes(b"")
    refused(folder, "3.png cannot be read as a picture")
    whole = (folder / "cat" / "1.png").read_bytes()
    path.write_bytes(whole[: len(whole) - 25])
    refused(folder, "3.png cannot be read as a picture")


def png(path, wide, high, bits, kind, body):
    """A PNG by hand: what it says of itself, and the bytes that it unpacks to."""

    def chunk(name, body):
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    head = struct.pack(">IIBBBBB", wide, high, bits, kind, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_a_decompression_bomb_is_not_unpacked(tmp_path):
    png(tmp_path / "c" / "b.png", 60000, 60000, 8, 0, bytes(9))
    refused(tmp_path, r"b.png cannot be read as a picture \(Image size")
    png(tmp_path / "c" / "b.png", 8193, 8192, 8, 0, bytes(9))  # below the limit of Pillow
    refused(tmp_path, r"b.png cannot be read as a picture \(8193 x 8192 pixels; more than")


def test_16_bits_and_other_colours_are_refused(tmp_path):
    deep = tmp_path / "c" / "a.png"
    save(noise(4, 4).astype(np.uint16) * 256, deep)
    refused(tmp_path, "more than 8 bits a channel")
    png(deep, 2, 2, 16, 2, (b"\x00" + bytes(12)) * 2)
    refused(tmp_path, "more than 8 bits a channel")
    deep.unlink()
    Image.new("CMYK", (4, 4)).save(tmp_path / "c" / "a.jpg")
    refused(tmp_path, "colours of the kind CMYK")


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a.png", "a.webp"])
def test_animations_and_pages_are_refused(tmp_path, name):
    frames = [Image.fromarray(noise(4, 4, 3, seed=n)) for n in range(2)]
    (tmp_path / "c").mkdir()
    frames[0].save(tmp_path / "c" / name, save_all=True, append_images=frames[1:])
    refused(tmp_path, "holds 2 pictures")


def test_the_jpeg_of_a_telephone_counts_as_its_first_picture(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), n, np.uint8)) for n in (60, 200)]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert (np.abs(pixels_of(tmp_path / "a.jpg").astype(int) - 60) < 3).all()


def test_links_out_of_the_folder_are_not_followed(folder, tmp_path):
    secret = save(noise(4, 6), tmp_path / "secret" / "1.png")
    link = folder / "dog" / "3.png"
    link.symlink_to(secret)
    refused(folder, "leads out of")
    link.unlink()
    (folder / "owl").symlink_to(secret.parent)
    refused(folder, "leads out of")
    (folder / "owl").unlink()
    link.symlink_to(link)
    refused(folder, "3.png cannot be read")
    link.unlink()
    link.symlink_to(folder / "dog" / "2.png")
    assert len(data.read(folder)) == 5
    (folder / "labels.csv").write_text("file,label\n../secret/1.png,x\n")
    refused(folder, "not named inside of")


def test_names_with_control_characters_are_refused(folder):
    os.rename(folder / "dog", folder / "do\x1b[31mg")
    refused(folder, r"control character.*do\\x1b")
    os.rename(folder / "do\x1b[31mg", os.fsencode(folder) + b"/d\xff")
    refused(folder, "is no Unicode")


def test_too_many_too_large(folder, monkeypatch):
    refused(folder, r"pixels of one picture would be 96 bytes", max_record_bytes=95)
    monkeypatch.setattr(reading, "MOST", 3)
    refused(folder, "more than 3 pictures")


def test_layouts_that_say_no_class_are_told_what_to_do(folder, tmp_path):
    save(RED, folder / "loose.png")
    assert "labels.csv" in refused(folder, "1 pictures lie in .* itself")
    (folder / "loose.png").unlink()
    (tmp_path / "data").mkdir()
    folder.rename(tmp_path / "data" / "train")
    assert f"name {tmp_path / 'data' / 'train'}" in refused(
        tmp_path / "data", "holds pictures, but"
    )
    (tmp_path / "data" / "train" / "cat" / "9.heic").touch()
    refused(tmp_path / "data" / "train", "no kind of picture")


def test_lists_are_checked(folder):
    path = folder / "labels.csv"
    path.write_text("name,label\ncat/1.png,x\n")
    refused(folder, "has no column 'file_name'")
    path.write_text("file,label\ncat/1.png,x\ncat/1.png,y\n")
    refused(folder, "names 'cat/1.png' twice")
    path.write_text("file,label\ncat/1.png,x\n")
    refused(folder, r"does not list 'cat/2.bmp' \(3 such")
    path.write_text("file,label\ncat/1.png,x\ncat/2.bmp,\ndog/1.tiff,x\ndog/2.png,x\n")
    refused(folder, "line 3: 'label' is missing")
    path.write_text("file,label\ncat/1.png,x\nno.png,y\n")
    refused(folder, "there is no picture")
    (folder / "metadata.csv").write_text("file_name\n")
    refused(folder, "has 2 lists")


def test_columns_are_for_lists(folder):
    refused(folder, "no column 'who'", owner_column="who")


def test_a_missing_pillow_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    assert "engram[vision]" in refused(folder, "needs Pillow")


# ---- written to a folder


def split_of(pixels, **more):
    shape = np.array(pixels.shape[1:])
    flat = (pixels.reshape(len(pixels), -1) / np.float32(255)).astype(np.float32)
    shared = {"image_shape": shape, "classes": np.array(["dog", "a cat", "/etc"])}
    return Split.of("drawn", features=flat, shared={**shared, **more.pop("shared", {})}, **more)


@pytest.mark.parametrize("shape", [(6, 4, 3), (6, 4)])
def test_what_was_written_is_read_back(tmp_path, shape):
    split = split_of(
        noise(5, *shape), label=[1, 0, 1, 0, 1], owners=list("aabbc"), ids=list("vwxyz"),
        origins=[["p", "q"], ["r"], ["s"], ["t"], ["u"]],
    )  # fmt: skip
    path = data.write(split, f"{tmp_path}/out/")
    again = data.read(path)
    assert (again.ids, again.owners, again.digests) == (split.ids, split.owners, split.digests)
    np.testing.assert_array_equal(again.matrix(), split.matrix())
    assert again.shared["classes"].tolist() == ["dog", "a cat"]
    assert sorted(os.listdir(path)) == ["a cat", "dog", "metadata.csv"]
    with (path / "metadata.csv").open() as stream:
        assert next(csv.DictReader(stream))["file_name"] == "a cat/000000.png"


def test_names_that_make_no_folder_are_numbered(tmp_path):
    split = split_of(noise(2, 4, 4), label=[1, 2])
    data.write(split, f"{tmp_path}/out/")
    assert sorted(os.listdir(tmp_path / "out")) == ["class-0", "class-1", "metadata.csv"]
    assert data.read(tmp_path / "out").matrix("label").tolist() == [1, 2]


@pytest.mark.parametrize("steps", [1, 3, 8, 25.5])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_budget_still_holds_of_the_files(tmp_path, steps, norm):
    """In steps of 1/255, exactly: bytes are whole numbers."""
    pixels = noise(6, 5, 5)
    before = split_of(pixels, ids=[str(n) for n in range(6)], label=[0, 1, 0, 1, 0, 1])
    budget = Budget(norm, steps / 255, 0.0, 1.0)
    wild = before.matrix() + RNG.choice([-1, 1], before.matrix().shape) * RNG.uniform(
        0, 2 * steps / 255, before.matrix().shape
    )
    kept = budget.kept(before.matrix(), wild)
    after = split_of(pixels, ids=before.ids, label=[0, 1, 0, 1, 0, 1])
    place = after.records.column_names.index("features")
    column = Split.of("x", features=kept).records.column(0)
    after = Split("x", after.records.set_column(place, "features", column), after.ids,
                  shared=after.shared)  # fmt: skip
    moved = data.write_pictures(after, tmp_path / "out", originals=before)
    again = np.rint(data.read(tmp_path / "out").matrix() * 255).astype(int)
    change = again - pixels.reshape(6, -1).astype(int)
    size = np.abs(change).max() if norm == "linf" else np.linalg.norm(change, axis=1).max()
    assert size <= steps * (1 + 1e-9)
    assert np.abs(again - kept * 255.0).max() < 1 + 1e-4
    assert 0 < moved < 1
    if norm == "linf":
        assert size == int(steps), "whole steps are not lost to the rounding of float32"


def test_without_originals_the_nearest_step_is_taken(tmp_path):
    flat = np.array([[0.1, 0.4, 0.499, 1.0]], np.float32)
    split = Split.of("x", features=flat, label=[0], shared={"image_shape": np.array([2, 2])})
    moved = data.write_pictures(split, tmp_path / "out")
    np.testing.assert_array_equal(data.read(tmp_path / "out").matrix() * 255, [[26, 102, 127, 255]])
    assert moved == pytest.approx(0.5, abs=1e-4)  # 25.5


def test_a_stated_range_is_taken_apart(tmp_path):
    shared = {"image_shape": np.array([1, 3]), "pixel_range": np.array([-1.0, 1.0])}
    split = Split.of("x", features=np.array([[-1, 0, 1]], np.float32), label=[4], shared=shared)
    assert data.write_pictures(split, tmp_path / "out") == pytest.approx(0.5)
    np.testing.assert_array_equal(data.read(tmp_path / "out").matrix() * 255, [[0, 128, 255]])
    wide = Split.of("x", features=np.array([[0, 16, 3]], np.float32), label=[4],
                    shared={"image_shape": np.array([1, 3])})  # fmt: skip
    with pytest.raises(EngramError, match="from 0 to 16, beyond 0 to 1"):
        data.write(wide, f"{tmp_path}/b/")
    assert data.write_pictures(wide, tmp_path / "b", pixels=(0.0, 17.0)) == 0


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    split = split_of(noise(2, 4, 4), label=[0, 1])
    monkeypatch.setattr(csv, "writer", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(EngramError, match="cannot be written"):
        data.write(split, f"{tmp_path}/out/")
    assert os.listdir(tmp_path) == []


def test_what_a_folder_cannot_hold_is_refused(tmp_path):
    def told(split, match):
        with pytest.raises(EngramError, match=match) as caught:
            data.write(split, f"{tmp_path}/out/")
        assert "parquet" in caught.value.hint
        assert os.listdir(tmp_path) == []

    told(Split.of("x", text=["a"]), "are no pictures")
    told(split_of(noise(1, 2, 2), label=[0], soft=[[0.5, 0.5]]), "the column 'soft'")
    told(split_of(noise(1, 2, 2), shared={"origins": np.array(["a"])}), "cannot hold")
    (tmp_path / "out").mkdir()
    with pytest.raises(EngramError, match="is there already"):
        data.write(split_of(noise(1, 2, 2), label=[0]), f"{tmp_path}/out/", force=True)

"""A deletion request that names an original record finds what was distilled from it."""

import numpy as np
import pytest

from engram import data
from engram.core import Split

DISTIL = {
    "distil-gradients": ("--per-class", 4, "--networks", 1, "--rounds", 1, "--network-steps", 1),
    "distil-distributions": ("--per-class", 4, "--steps", 1),
    "distil-kernel": ("--per-class", 4, "--steps", 1, "--pool", 1, "--oldest", 2),
    "distil-self-supervised": ("--count", 12, "--steps", 1, "--pool", 1, "--oldest", 2,
                               "--teacher-epochs", 1, "--teacher-width", 4),
}  # fmt: skip


def pictures():
    rng = np.random.default_rng(3)
    labels = np.arange(24) % 3
    features = rng.uniform(0, 1, (24, 16)).astype(np.float32)
    owners = [f"person {i % 5}" for i in range(24)]
    return Split.of("pictures", features=features, label=labels, owners=owners)


@pytest.mark.parametrize("method", DISTIL)
def test_by_id_by_owner_and_through_a_base(engram, tmp_path, method):
    split = pictures()
    real = data.write(split, tmp_path / "real.parquet")
    few, base, tuned = (tmp_path / name for name in ("few.parquet", "base", "tuned"))
    small = ("--width", 4, "--layers", 1)
    epochs = ("--holdout", 0.25, "--epochs", 1)

    def done(*args):
        said = engram(*args)
        assert said.code == 0, said.err

    done("transform", method, "--data", real, "--out", few, *small, *DISTIL[method])
    done("train", "train-classifier", "--data", few, "--out", base, *epochs)
    for asked in (("--ids", split.ids[7]), ("--owner", "person 2")):
        said = engram("forget", base, *asked, "--out", tmp_path / "without")
        assert said.code == 2
        assert "every trained record is to be forgotten" in said.err
        assert "distil again without" in said.err

    fresh = Split.of(
        "fresh",
        features=1 - split.matrix("features"),
        label=split.matrix("label"),
    )
    others = data.write(fresh, tmp_path / "others.parquet")
    done("train", "finetune-classifier", "--base", base, "--data", others, "--out", tuned, *epochs)
    said = engram("forget", tuned, "--ids", split.ids[7], "--out", tmp_path / "without")
    assert said.code == 2
    assert "but its base 'base' was, or on records made from them" in said.err
    said = engram("forget", tuned, "--ids", "0" * 16, "--out", tmp_path / "without")
    assert said.code == 2
    assert "its base" not in said.err
    assert not (tmp_path / "without").exists()

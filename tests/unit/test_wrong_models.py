"""Folders that hold another kind of model than was asked for, and checkpoints inside of one."""

import json

import pytest

from engram.core import EngramError
from engram.families.causal_lm import FAMILY, tiny


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "checkpoint-7"
    FAMILY.save(
        tiny(["one two three"], seed=1, vocabulary=300, layers=1, width=16, heads=2), folder
    )
    return folder


@pytest.mark.parametrize(
    "changed",
    [
        {"architectures": ["GPT2ForSequenceClassification"]},
        {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
    ],
)
def test_a_model_with_another_head_is_named_and_not_given_a_new_one(saved, changed, tmp_path):
    # transformers opens a classifier on GPT-2 as a language model, with the embeddings as its head
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((saved / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(EngramError, match=changed["architectures"][0]) as caught:
        FAMILY.load(tmp_path)
    assert "--scores" in caught.value.hint


def test_the_folder_of_a_trainer_names_its_checkpoints(saved):
    with pytest.raises(EngramError, match="not a model folder") as caught:
        FAMILY.load(saved.parent)
    assert "checkpoint-7" in caught.value.hint

"""Vision-language models: only answers count, pictures are seen, folders open again."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch

from engram import families
from engram.core import EngramError, Split, stream
from engram.engine.targets import load
from engram.families.vision_language_lm import FAMILY, VisionLanguageModel, tiny
from engram.parts.published_model import published_family
from engram.parts.training import batch_loss

SIZE = {"vision_layers": 1, "vision_width": 16, "layers": 2, "width": 16, "heads": 2}
PROMPTS = ("what is this", "what digit is this", "is it even", "what is this")
ANSWERS = ("a three by hand", "it is seven", "yes", "a seven")


@pytest.fixture(scope="module")
def records():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64), dtype=np.uint8)
    return Split.of(
        "r", image=pixels, image_shape=[[8, 8]] * 4, prompt=list(PROMPTS), response=list(ANSWERS)
    )


@pytest.fixture(scope="module")
def vlm():
    return tiny([*PROMPTS, *ANSWERS], seed=0, spread=0.3, **SIZE)


def changed(split, **columns):
    table = split.records
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return Split(split.name, table, split.ids)


def slowly(vlm, image, prompt, response):
    """Log-probabilities of the answer's tokens alone, one record, written out."""
    words = vlm.processor.tokenizer
    ids = words("<image>" * 4 + prompt)["input_ids"]
    own = words(response, add_special_tokens=False)["input_ids"]
    pixels = (torch.tensor(np.asarray(image, np.float32).reshape(8, 8)) / 255 - 0.5) / 0.5
    with torch.no_grad():
        logits = vlm.model(
            input_ids=torch.tensor([ids + own]), pixel_values=pixels.expand(1, 3, 8, 8)
        ).logits[0]
    found = torch.log_softmax(logits.double(), -1)
    return [float(found[len(ids) + t - 1, token]) for t, token in enumerate(own)]


def test_only_answer_tokens_count(vlm, records):
    images = records.matrix("image")
    slow = [slowly(vlm, *row) for row in zip(images, PROMPTS, ANSWERS, strict=True)]
    np.testing.assert_allclose(
        FAMILY.losses(vlm, records), [-np.mean(each) for each in slow], atol=1e-5
    )
    said = FAMILY.logprobs(vlm, records)
    assert said.lengths.tolist() == [4, 3, 1, 2]
    np.testing.assert_allclose(said.logprob, np.concatenate(slow), atol=1e-5)


def test_training_sees_the_end_token_too(vlm, records):
    examples = FAMILY.examples(vlm, records)
    assert examples.counts.tolist() == [5, 4, 2, 3]
    whole = float(sum(part.detach() for part in batch_loss(examples, np.arange(4))))
    alone = [float(sum(batch_loss(examples, np.array([r]))).detach()) for r in range(4)]
    assert whole == pytest.approx(np.average(alone, weights=[5, 4, 2, 3]), rel=1e-5)


def test_the_picture_decides(vlm, records):
    other = changed(records, image=(255 - records.matrix("image")).tolist())
    assert np.abs(FAMILY.losses(vlm, records) - FAMILY.losses(vlm, other)).min() > 1e-4


def test_white_space_around_prompt_and_response_is_not_told(vlm, records):
    spaced = changed(
        records, prompt=[p + "\n" for p in PROMPTS], response=[" " + a for a in ANSWERS]
    )
    np.testing.assert_array_equal(FAMILY.losses(vlm, records), FAMILY.losses(vlm, spaced))


def test_answers_are_the_likeliest_tokens(vlm, records):
    said = FAMILY.written(vlm, records, 3)
    words = vlm.processor.tokenizer
    for row, answer in enumerate(said):
        tokens = words("<image>" * 4 + PROMPTS[row])["input_ids"]
        beside = vlm.processor.beside([""], [vlm_image(records, row)], len(tokens))
        made, mark = [], words.convert_tokens_to_ids("<image>")
        while len(made) < 3 and not {words.eos_token_id, mark} & set(made):
            with torch.no_grad():
                logits = vlm.model(input_ids=torch.tensor([tokens + made]), **beside).logits
            made.append(int(logits[0, -1].argmax()))
        own = words.decode(made, skip_special_tokens=True).strip()
        assert answer.startswith(own)  # after a mark the plain way would want another picture
        assert answer == own or mark in made


def vlm_image(records, row):
    from engram.parts.images import images_of

    return images_of(records)[row]


def test_what_cannot_be_asked_has_a_reason(vlm, records):
    odd = changed(records, response=["", "it is seven", "yes " * 80, "a seven"])
    assert FAMILY.outcomes(vlm, odd) == ("too-short", "scored", "too-long", "scored")
    assert FAMILY.losses(vlm, odd)[[0, 2]].tolist() == [0, 0]
    assert len(FAMILY.examples(vlm, odd).counts) == 2


def test_save_and_open_again(vlm, records, tmp_path):
    FAMILY.save(vlm, tmp_path)
    assert published_family(tmp_path) == FAMILY.name
    again = FAMILY.load(tmp_path)
    assert FAMILY.fingerprint(again) == FAMILY.fingerprint(vlm)
    np.testing.assert_array_equal(FAMILY.losses(again, records), FAMILY.losses(vlm, records))
    assert FAMILY.written(again, records, 3) == FAMILY.written(vlm, records, 3)
    assert load(tmp_path).family == FAMILY.name
    assert not list(tmp_path.glob("*.bin"))


def test_the_fingerprint_knows_weights_and_pixels(vlm):
    other = tiny([*PROMPTS, *ANSWERS], seed=1, spread=0.3, **SIZE)
    assert FAMILY.fingerprint(other) != FAMILY.fingerprint(vlm)
    from dataclasses import replace

    processor = replace(vlm.processor, mean=(0.1, 0.5, 0.5))
    assert FAMILY.fingerprint(VisionLanguageModel(vlm.model, processor)) != FAMILY.fingerprint(vlm)


def test_code_and_damage_are_refused(vlm, tmp_path):
    FAMILY.save(vlm, tmp_path / "good")
    for name, change, told in (
        ("processor_config.json", {"auto_map": {"AutoProcessor": "x.Y"}}, "auto_map"),
        ("config.json", {"auto_map": {"AutoModel": "x.Y"}}, "auto_map"),
        ("preprocessor_config.json", {"image_mean": "zero"}, "cannot be read"),
    ):
        folder = tmp_path / "bad"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "good", folder)
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(EngramError, match=told):
            FAMILY.load(folder)
    (tmp_path / "good" / "model.safetensors").unlink()
    (tmp_path / "good" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(EngramError, match="pickled"):
        FAMILY.load(tmp_path / "good")


def test_bad_records_are_named(vlm, records):
    small = Split.of("s", image=np.zeros((1, 4), np.uint8), image_shape=[[2, 2]], prompt=["a"],
                     response=["b"])  # fmt: skip
    with pytest.raises(EngramError, match=r"2 x 2 pixels, but the model takes 8 x 8"):
        FAMILY.losses(vlm, small)
    for column in ("image", "prompt", "response"):
        left = Split("s", records.records.drop_columns([column]), records.ids)
        with pytest.raises(EngramError, match=f"no column '{column}'"):
            FAMILY.check(left)
    with pytest.raises(EngramError, match="stands for the picture"):
        FAMILY.losses(vlm, changed(records, prompt=["<image>", "a", "b", "c"]))
    with pytest.raises(EngramError, match="holds int64, not strings"):
        FAMILY.check(changed(records, prompt=[1, 2, 3, 4]))


def test_the_other_questions_that_a_family_answers(vlm, records):
    assert families.find("vision-language-lm") is FAMILY
    facts = FAMILY.describe(vlm)
    assert 0 < facts["vision parameters"] < facts["parameters"]
    rng = stream(0, "family")
    perplexity, loss = FAMILY.quality(vlm, records, rng)
    assert perplexity.value > 1
    assert loss.better == "lower"
    planted = FAMILY.canaries(3, rng)
    FAMILY.check(planted)
    assert all(planted.canaries)
    assert len(set(planted.owners)) == 3
    assert FAMILY.perturb(records, 0.2, rng).ids == records.ids
    assert FAMILY.render(records, 1) == "[picture of 8 x 8] what digit is this -> it is seven"


def test_pieces_must_fill_the_picture():
    with pytest.raises(EngramError, match="pieces of 3 do not fill"):
        tiny(["a"], seed=0, side=8, patch=3)


def test_hugging_face_opens_the_folder_with_the_same_pixels(vlm, records, tmp_path):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    from engram.parts.picture_processors import _published

    FAMILY.save(vlm, tmp_path)
    theirs = VisionLanguageModel(vlm.model, _published(str(tmp_path)))
    image = vlm_image(records, 0)
    beside = [m.processor.beside(["a"], [image], 9)["pixel_values"] for m in (vlm, theirs)]
    np.testing.assert_allclose(*[each.numpy() for each in beside], atol=1e-6)
    assert len(FAMILY.written(theirs, records, 2)) == 4
    assert np.isfinite(FAMILY.losses(theirs, records)).all()

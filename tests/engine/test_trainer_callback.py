"""The callback in trainers of transformers and TRL: it watches, stops, and changes nothing else."""

import json

import pytest
import torch
from datasets import Dataset
from transformers import (
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from engram.core import EngramError, Split, stream
from engram.families.causal_lm import byte_tokenizer, tiny
from engram.integrations import MemorisationCallback
from engram.integrations.training_records import passages_of, rows_of
from engram.parts.letters import patients

TEXTS = [
    f"{p.name} was seen on a day in May, and again in June; the patient number is {number}."
    for number, p in enumerate(patients(30, stream(0, "callback")))
]
TRAINED, OTHERS = TEXTS[:20], TEXTS[20:]
SHORT = {"prefix": 6, "suffix": 8}
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    made = byte_tokenizer(TEXTS, 300, 64)
    made.padding_side = "left"
    return made


@pytest.fixture
def quiet():
    """What is told, instead of printing it."""
    return []


def network(tokenizer):
    lm = tiny(TEXTS, seed=1, vocabulary=300, layers=1, width=16, heads=2, context=64, dropout=0.2)
    assert lm.tokenizer.get_vocab() == tokenizer.get_vocab()
    return lm.model


def settings(folder, **more):
    return {
        "output_dir": str(folder), "num_train_epochs": 2, "per_device_train_batch_size": 10,
        "learning_rate": 1e-2, "lr_scheduler_type": "constant", "report_to": [], "use_cpu": True,
        "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "bf16": False,
        **more,
    }  # fmt: skip


def plain_trainer(folder, tokenizer, *callbacks, **more):
    data = [{"input_ids": tokenizer(text)["input_ids"]} for text in TRAINED]
    return Trainer(
        network(tokenizer),
        TrainingArguments(**settings(folder, **more)),
        train_dataset=data,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def lines(folder):
    text = (folder / "memorisation" / "memorisation.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_the_training_is_as_without(tmp_path, tokenizer, quiet):
    alone = plain_trainer(tmp_path / "a", tokenizer)
    alone.train()
    watched = plain_trainer(
        tmp_path / "b",
        tokenizer,
        MemorisationCallback(TRAINED, validation=OTHERS, tell=quiet.append, **SHORT),
    )
    watched.model.activation_checkpointing_enable()
    watched.model.config.use_cache = False
    watched.train()
    assert same(weights(alone), weights(watched))  # dropout and order of the records, too
    seen = lines(tmp_path / "b")
    assert [entry["step"] for entry in seen] == [0, 2, 4]
    assert seen[-1]["train_perplexity"] < seen[0]["train_perplexity"]
    assert seen[0]["auc"] == 0.5
    assert len(quiet) == 3
    page = (tmp_path / "b" / "memorisation" / "memorisation.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert watched.model.training or not alone.model.training


def test_it_stops_and_the_chosen_weights_are_back(tmp_path, tokenizer, quiet):
    stopping = MemorisationCallback(
        TRAINED, validation=OTHERS, stop="perplexity", patience=1, tell=quiet.append, **SHORT
    )
    trainer = plain_trainer(
        tmp_path, tokenizer, stopping, num_train_epochs=6, learning_rate=0.3, max_grad_norm=0.0
    )
    untrained = weights(trainer)
    trainer.train()
    perplexities = [entry["validation_perplexity"] for entry in stopping.trace]
    kept = perplexities.index(min(perplexities))
    assert len(perplexities) == kept + 2  # one more than the best, and no further
    assert (kept == 0) == same(untrained, weights(trainer))
    again = stopping._monitor.look(stopping._model({"model": trainer.model,
                                   "processing_class": tokenizer}), 1, 0.0)  # fmt: skip
    assert again["validation_perplexity"] == pytest.approx(perplexities[kept], rel=1e-6)
    assert not (tmp_path / "memorisation" / "best.safetensors").exists()


@pytest.mark.filterwarnings("ignore")
def test_supervised_tuning_of_trl_in_one_line(tmp_path, tokenizer, quiet):
    pairs = [{"prompt": text[:30], "completion": text[30:]} for text in TRAINED]
    data = Dataset.from_list(pairs)
    found = []
    for name in ("alone", "watched"):
        trainer = SFTTrainer(
            network(tokenizer),
            args=SFTConfig(max_length=64, **settings(tmp_path / name)),
            train_dataset=data,
            processing_class=tokenizer,
        )
        if name == "watched":
            trainer.add_callback(MemorisationCallback(data, every=3, tell=quiet.append))
        trainer.train()
        found.append(weights(trainer))
    assert same(*found)
    seen = lines(tmp_path / "watched")
    assert [entry["step"] for entry in seen] == [0, 3, 4]
    assert "auc" not in seen[0]
    assert seen[-1]["train_perplexity"] < seen[0]["train_perplexity"]


def test_a_training_that_goes_on_keeps_its_observations(tmp_path, tokenizer, quiet):
    first = MemorisationCallback(TRAINED, validation=OTHERS, tell=quiet.append, **SHORT)
    plain_trainer(tmp_path, tokenizer, first, num_train_epochs=1, save_strategy="epoch").train()
    second = MemorisationCallback(TRAINED, validation=OTHERS, tell=quiet.append, **SHORT)
    trainer = plain_trainer(tmp_path, tokenizer, second, save_strategy="epoch")
    trainer.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in second.trace] == [0, 2, 4]
    assert second.trace[:2] == first.trace
    whole = MemorisationCallback(TRAINED, validation=OTHERS, tell=quiet.append, **SHORT)
    plain_trainer(tmp_path / "whole", tokenizer, whole).train()
    assert whole.trace[2] == pytest.approx(second.trace[2], rel=1e-5)


def test_other_processes_neither_look_nor_write(tmp_path, tokenizer, quiet):
    callback = MemorisationCallback(TRAINED, tell=quiet.append, **SHORT)
    given = {"model": network(tokenizer), "processing_class": tokenizer}
    args, control = TrainingArguments(output_dir=str(tmp_path), use_cpu=True), TrainerControl()
    state = TrainerState(is_world_process_zero=False, global_step=0, epoch=0.0)
    for moment in (callback.on_train_begin, callback.on_epoch_end, callback.on_train_end):
        moment(args, state, control, **given)
    assert not quiet
    assert not list(tmp_path.iterdir())


def test_what_a_record_may_look_like(tokenizer):
    texts = passages_of(rows_of(Split.of("s", text=TRAINED, owners=TRAINED), "records"),
                        tokenizer, 64)  # fmt: skip
    assert texts.judged.tolist() == [1] * 20
    for columns in (("prompt", "completion"), ("question", "answer")):
        rows = [dict(zip(columns, (text[:30], text[30:]), strict=True)) for text in TRAINED]
        cut = passages_of(rows_of(rows, "records"), tokenizer, 64)
        for ids, start, text in zip(cut.tokens, cut.cut, TRAINED, strict=True):
            assert text.startswith(tokenizer.decode(ids[1:start]))
            assert len(tokenizer.decode(ids[1:start])) > 24
    tokenizer.chat_template = CHAT
    try:
        turns = [{"messages": [{"role": "user", "content": "Who?"},
                               {"role": "assistant", "content": TRAINED[0]}]}]  # fmt: skip
        [ids], [start] = (lambda p: (p.tokens, p.cut))(passages_of(turns, tokenizer, 64))
        assert tokenizer.decode(ids[1:start]).startswith("<user>Who?\n<assistant")
        assert TRAINED[0] in tokenizer.decode(ids[1:])
        with pytest.raises(EngramError, match="does not end"):
            passages_of([{"messages": turns[0]["messages"][:1]}], tokenizer, 64)
    finally:
        tokenizer.chat_template = None
    with pytest.raises(EngramError, match="chat template"):
        passages_of(turns, tokenizer, 64)


@pytest.mark.parametrize(
    ("records", "said"),
    [([], "empty"), ("a text", "str"), ([3], "int"), (7, "int")],
)
def test_records_that_are_none(records, said):
    with pytest.raises(EngramError, match=said):
        MemorisationCallback(records)


def test_columns_and_tokenizers_that_are_missing(tmp_path, tokenizer):
    with pytest.raises(EngramError, match="a, b"):
        passages_of([{"a": "x", "b": "y"}], tokenizer, 64)
    with pytest.raises(EngramError, match="every is -1"):
        MemorisationCallback(TRAINED, every=-1)
    with pytest.raises(EngramError, match="no tokenizer"):
        MemorisationCallback(TRAINED)._model({"model": None})
    with pytest.raises(EngramError, match="validation"):
        plain_trainer(
            tmp_path, tokenizer, MemorisationCallback(TRAINED, stop="ngram", **SHORT)
        ).train()

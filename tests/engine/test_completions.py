"""The client of completions servers: patience with those that fail, no trust in any of them."""

import json
import threading
import time
from dataclasses import replace
from email.utils import formatdate

import numpy as np
import pytest
from completions_server import (
    Served,
    body_of,
    cut,
    drop,
    endless,
    serving,
    stall,
    status,
    trickle,
)

from engram.core import EngramError, Split
from engram.families.api_lm import FAMILY
from engram.parts import completions
from engram.parts.answer_store import FILE, AnswerStore
from engram.parts.completion_answers import Echo, Next, Written, agree
from engram.parts.completions import Address, Budget, Client, Patience, RefusedError
from engram.parts.threads import together

HASTY = Patience(tries=3, first=0.01, longest=0.02, timeout=5.0, limited=0.4)


@pytest.fixture
def served(lms):
    with serving(Served(lms[0])) as server:
        yield server


def opened(served, patience=HASTY, **options):
    return FAMILY.load(served.base, patience=patience, **options)


def after_probe(*faults):
    """These faults for the questions after the probe, one each; then none."""
    return lambda number, body: faults[number - 1] if 0 < number <= len(faults) else None


def always(fault):
    """This fault for every question after the probe."""
    return lambda number, body: fault if number else None


@pytest.fixture
def records():
    return Split.of("records", text=["the first record of all", "and a second one"], ids=["a", "b"])


# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "base", "model"),
    [
        ("openai://127.0.0.1:80/tiny", "http://127.0.0.1:80", "tiny"),
        ("openai://localhost/tiny", "http://localhost", "tiny"),
        ("openai://[::1]:8000/tiny", "http://[::1]:8000", "tiny"),
        ("openai://example.org/org/model-7b", "https://example.org", "org/model-7b"),
        ("openai+http://box:8000/m", "http://box:8000", "m"),
        ("openai+https://127.0.0.1/m", "https://127.0.0.1", "m"),
        ("openai://example.org/api/v1/org/m", "https://example.org/api", "org/m"),
        ("openai://example.org/a%20b", "https://example.org", "a b"),
        ("openai://example.org", "https://example.org", ""),
        ("openai://localhost//models/tiny/", "http://localhost", "/models/tiny"),
    ],
)
def test_addresses(where, base, model):
    assert Address.parse(where) == Address(base, model)


@pytest.mark.parametrize(
    "where",
    ["openai://", "openai:///m", "openai://h:99999/m", "openai://h:x/m", "openai://h/m?key=1",
     "openai://h/m#x", "openai://h/a b", "openai://h/a\nb", "openai://" + "x" * 80 + "/m"],
)  # fmt: skip
def test_bad_addresses_are_refused(where):
    with pytest.raises(EngramError, match="no address of a served model"):
        Address.parse(where)


def test_an_address_with_a_password_is_refused_without_repeating_it():
    with pytest.raises(EngramError, match="user name or a password") as caught:
        Address.parse("openai://me:secret@host/m")
    assert "secret" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("where", "private"),
    [("openai://127.0.0.1:1/m", True), ("openai://example.org/m", True),
     ("openai+http://example.org/m", False), ("openai+http://localhost/m", True)],
)  # fmt: skip
def test_a_key_is_sent_only_where_nobody_reads_along(where, private, monkeypatch):
    monkeypatch.setenv(completions.KEY, "sk-secret")
    headers = Client(Address.parse(where))._headers()
    assert (headers.get("Authorization") == "Bearer sk-secret") == private


# --- keys -----------------------------------------------------------------------------------------


def test_the_key_comes_from_the_environment_and_is_kept_nowhere(served, monkeypatch, tmp_path):
    served.key = "sk-secret"
    monkeypatch.setenv(completions.KEY, "sk-secret")
    model = opened(served, root=tmp_path)
    assert served.headers[0]["Authorization"] == "Bearer sk-secret"
    kept = "".join(p.read_text() for p in tmp_path.rglob("*") if p.is_file())
    assert "sk-secret" not in kept + repr(model) + repr(model.client) + str(vars(model.client))


def test_a_wrong_key_is_an_error_that_does_not_repeat_it(served, monkeypatch):
    served.key = "sk-right"
    monkeypatch.setenv(completions.KEY, "sk-wrong")
    with pytest.raises(RefusedError, match=r"401 Incorrect API key provided: \*\*\*") as caught:
        opened(served)
    assert "sk-wrong" not in str(caught.value)
    assert completions.KEY in caught.value.hint


def test_a_broken_key_is_refused_without_repeating_it(served, monkeypatch):
    monkeypatch.setenv(completions.KEY, "sk-a\nsk-b")
    with pytest.raises(EngramError, match="holds characters that no key has") as caught:
        opened(served)
    assert "sk-a" not in str(caught.value)


# --- patience -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [status(500), status(503), drop, cut], ids=["500", "503", "drop", "cut"]
)
def test_what_fails_at_first_is_asked_again(served, records, fault):
    served.fault = after_probe(fault, fault)
    model = opened(served, threads=1)
    signals = FAMILY.logprobs(model, records)
    assert (signals.lengths > 0).all()
    assert len(served.asked) == 1 + 2 + 2 + 1  # probe, failures, records, and the probe again
    assert model.client.budget.spent == len(served.asked)


@pytest.mark.parametrize(
    ("fault", "words"),
    [(status(500, "boom"), "500: boom"), (drop, "closed"), (cut, "cut off")],
)
def test_what_fails_for_ever_is_given_up(served, records, fault, words):
    served.fault = always(fault)
    model = opened(served, threads=1)
    with pytest.raises(EngramError, match=rf"record 'a'.*{words}.*3 times in a row"):
        FAMILY.logprobs(model, records)
    assert len(served.asked) == 1 + 3


@pytest.mark.parametrize("fault", [stall(1.0), trickle], ids=["stalls", "trickles"])
def test_a_server_that_stalls_is_given_up_in_time(served, records, fault):
    served.fault = always(fault)
    model = opened(served, replace(HASTY, tries=2, timeout=0.3), threads=1)
    began = time.monotonic()
    with pytest.raises(
        EngramError, match=r"no whole answer within [0-9.]+ seconds, 2 times in a row"
    ):
        FAMILY.logprobs(model, records)
    assert time.monotonic() - began < 3


def test_pauses_double_and_vary():
    client = Client(Address.parse("openai://h/m"), patience=Patience(first=1.0, longest=6.0))
    pauses = np.array([[client._backoff(n) for n in (1, 2, 3, 9)] for _ in range(50)])
    longest = np.array([1.0, 2.0, 4.0, 6.0])
    assert (pauses <= longest).all()
    assert (pauses >= longest / 2).all()
    assert (pauses.std(0) > 0).all()


def test_rate_limits_hold_every_thread_for_as_long_as_the_server_says(served, records):
    moments = []

    def limit(number, body):
        moments.append(time.monotonic())
        return status(429, "slow down", Retry_After="0.3") if number == 1 else None

    served.fault = limit
    model = opened(served, threads=1)
    FAMILY.logprobs(model, records)
    assert moments[2] - moments[1] >= 0.3
    assert len(served.asked) == 1 + 1 + 2 + 1


def test_a_rate_limit_may_name_a_date_or_nothing():
    read = completions._retry_after
    assert read("7") == 7
    assert 3 < read(formatdate(time.time() + 5, usegmt=True)) <= 5
    assert read(formatdate(time.time() - 5, usegmt=True)) == 0
    assert [read(said) for said in ("soon", "-3", "", None)] == [None] * 4


def test_endless_rate_limits_are_given_up(served, records):
    served.fault = always(status(429, "slow down"))
    with pytest.raises(EngramError, match="limits the rate"):
        FAMILY.logprobs(opened(served, threads=2), records)
    served.fault = always(status(429, "slow down", Retry_After="86400"))
    with pytest.raises(EngramError, match="asks to wait 86400 seconds more"):
        FAMILY.logprobs(opened(served, threads=2), records)


def test_an_empty_quota_is_given_up_at_once(served, records):
    served.fault = always(status(429, "insufficient_quota: pay first"))
    model = opened(served, threads=1)
    with pytest.raises(EngramError, match="no quota left"):
        FAMILY.logprobs(model, records)
    assert len(served.asked) == 2


@pytest.mark.parametrize(
    ("code", "words"), [(400, "longer than"), (302, "redirects"), (413, "long")]
)
def test_a_refusal_names_the_record_and_is_not_asked_again(served, records, code, words):
    served.fault = always(status(code, "no\x1b[31m\nthanks", Location="http://127.0.0.1:1/"))
    model = opened(served, threads=1)
    with pytest.raises(
        RefusedError, match=rf"refuses record 'a': {code} no \[31m thanks"
    ) as caught:
        FAMILY.logprobs(model, records)
    assert words in caught.value.hint
    assert len(served.asked) == 2


# --- the ceiling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 4, 9])
def test_the_ceiling_is_never_exceeded(served, limit):
    served.fault = lambda number, body: status(500) if number % 2 else None
    records = Split.of("records", text=[f"record number {i}" for i in range(20)])
    model = opened(served, budget=Budget(limit), threads=4)
    with pytest.raises(EngramError, match=f"ceiling of {limit} requests is reached"):
        FAMILY.logprobs(model, records)
    time.sleep(0.1)
    assert len(served.asked) == limit


def test_a_ceiling_must_allow_something():
    with pytest.raises(EngramError, match="max-requests is 0"):
        Budget(0)


# --- what a server says is not believed -----------------------------------------------------------


def changed(**parts):
    """Change the log-probabilities of every answer after the probe."""

    def change(number, answer):
        if number:
            given = answer["choices"][0]["logprobs"]
            for name, value in parts.items():
                given[name] = value(given[name])

    return change


def middle(value):
    return lambda old: [*old[:2], value, *old[3:]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(token_logprobs=middle(float("nan"))), "log-probability of nan for token 2"),
        (changed(token_logprobs=middle(float("-inf"))), "log-probability of -inf for token 2"),
        (changed(token_logprobs=middle(0.5)), "log-probability of 0.5 for token 2"),
        (changed(token_logprobs=middle(None)), "log-probability of null for token 2"),
        (changed(token_logprobs=middle("-1")), "log-probability of '-1' for token 2"),
        (changed(token_logprobs=middle(True)), "log-probability of True for token 2"),
        (changed(token_logprobs=lambda old: old[:-1]), "tokens, but"),
        (changed(token_logprobs=lambda old: None), "tokens, but no log-probabilities"),
        (changed(tokens=lambda old: [*old[:-1], "x"]), "tokens that join to"),
        (changed(tokens=lambda old: [*old, ""]), "tokens, but"),
        (changed(tokens=lambda old: [*old[:-1], 7]), "no list of tokens"),
        (changed(tokens=lambda old: "tokens"), "no list of tokens"),
        (lambda number, answer: number and answer.update(choices=[]), "no `choices`"),
        (lambda number, answer: number and answer.update(usage={"prompt_tokens": 3}), "has 3"),
        (lambda number, answer: number and answer["choices"][0].update(logprobs=None),
         "no log-probabilities, though"),
    ],
)  # fmt: skip
def test_nonsense_is_one_clear_error_that_names_the_record(served, records, change, words):
    model = opened(served, threads=1)
    served.change = change
    with pytest.raises(EngramError, match="answer about record 'a' cannot be used") as caught:
        FAMILY.logprobs(model, records)
    assert words in str(caught.value)
    assert len(model.answers) == 0


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>hello</html>", b"[1]", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000],
    ids=lambda data: data[:8].decode("latin1"),
)
def test_what_is_no_json_object_is_refused(served, records, data):
    served.fault = always(body_of(data))
    with pytest.raises(EngramError, match="does not answer in JSON objects"):
        FAMILY.logprobs(opened(served, threads=1), records)


@pytest.mark.parametrize("promise", ["1073741824", None, "99999999999999999999999"])
def test_a_huge_body_is_refused_early(served, records, promise):
    served.fault = always(endless(promise))
    model = opened(served, threads=1)
    began = time.monotonic()
    with pytest.raises(EngramError, match=r"more than 33,554,432 bytes|does not answer"):
        FAMILY.logprobs(model, records)
    assert time.monotonic() - began < 5


def test_a_web_server_is_not_a_model(served):
    with pytest.raises(EngramError, match="refuses the probe: 404"):
        FAMILY.load(served.base.replace("/tiny", "/elsewhere/v1/tiny"), patience=HASTY)


def test_a_missing_model_is_named(served):
    with pytest.raises(EngramError, match="has no model called 'tony'") as caught:
        FAMILY.load(served.base.replace("/tiny", "/tony"), patience=HASTY)
    assert caught.value.hint == "did you mean tiny?"
    with pytest.raises(EngramError, match="names no model") as caught:
        FAMILY.load(served.base.removesuffix("/tiny"), patience=HASTY)
    assert "it has tiny" in caught.value.hint


def test_nobody_there():
    with pytest.raises(EngramError, match=r"does not answer.*refused"):
        FAMILY.load("openai://127.0.0.1:1/m", patience=HASTY)


# --- reading answers ------------------------------------------------------------------------------


def echo_of(tokens, numbers, **more):
    return {"choices": [{"logprobs": {"tokens": tokens, "token_logprobs": numbers}}], **more}


@pytest.mark.parametrize(
    ("tokens", "numbers", "written", "scored"),
    [
        (["ab", "cd"], [None, -1.0], 0, ("cd",)),  # nothing before the first
        (["<s>", "ab", "cd"], [None, -2.0, -1.0], 0, ("ab", "cd")),  # a token opens the text
        (["ab", "cd"], [-2.0, -1.0], 0, ("ab", "cd")),  # it is hidden, but was read
        (["ab", "cd", "ef"], [None, -1.0, -3.0], 1, ("cd",)),  # one more was written
        (["<s>", "ab", "cd", "ef"], [None, -2.0, -1.0, -3.0], 1, ("ab", "cd")),
        (["abcd"], [None], 0, ()),
    ],
)
def test_echoes_are_read_as_servers_write_them(tokens, numbers, written, scored):
    echo = Echo.of(echo_of(tokens, numbers), "abcd", written, "it")
    assert echo.tokens == scored
    expected = [x for t, x in zip(tokens, numbers, strict=True) if t in scored]
    assert echo.logprobs == tuple(expected)


def test_rounding_above_zero_is_forgiven():
    assert Echo.of(echo_of(["a", "b"], [None, 5e-4]), "ab", 0, "it").logprobs == (0.0,)


@pytest.mark.parametrize(
    ("tokens", "text", "fits"),
    [
        (["na", "\ufffd", "\ufffd", "ve"], "na\u00efve", True),
        (["na", "bytes:\\xc3", "bytes:\\xaf", "ve"], "na\u00efve", True),
        (["na", "bytes:\\xc3\\xaf", "ve"], "na\u00efve", True),
        (["na", "\ufffd", "ve"], "naive", False),
        (["no", "\ufffd", "ve"], "na\u00efve", False),
        (["naive"], "na\u00efve", False),
        (["bytes:\\xzz"], "bytes:\\xzz", True),
        ([], "", True),
    ],
)
def test_tokens_of_parts_of_characters_are_compared_as_far_as_they_can(tokens, text, fits):
    assert agree(tokens, text) is fits


def test_next_tokens_give_a_number_or_a_bound():
    answer = {"choices": [{"logprobs": {"top_logprobs": [{" a": -1.0, " ap": -2.0, " b": -3.0}]}}]}
    tops = Next.of(answer, "it")
    assert tops.bound(" apple") == (-2.0, False)
    assert tops.bound(" and") == (-1.0, False)
    assert tops.bound(" cherry") == (-3.0, True)
    left = 1 - np.exp(-0.01)
    assert Next({" a": -0.01}).bound("x") == pytest.approx((np.log(left), True))
    chat = [{"top_logprobs": [{"token": " a", "logprob": -1.0}]}]
    assert Next.of({"choices": [{"logprobs": {"content": chat}}]}, "it").tops == {" a": -1.0}


@pytest.mark.parametrize(
    "tops", [[], [{}], [{"a": 0.5}], [{"a": -0.1, "b": -0.1}], [{"a": float("nan")}], [None], 3]
)
def test_next_tokens_must_be_probabilities(tops):
    with pytest.raises(EngramError, match="cannot be used"):
        Next.of({"choices": [{"logprobs": {"top_logprobs": tops}}]}, "it")


def test_continuations_are_texts_of_a_likely_length():
    assert Written.of({"choices": [{"text": "so"}]}, 1, "it").text == "so"
    for text in (None, 3, "x" * 10_000):
        with pytest.raises(EngramError, match="cannot be used"):
            Written.of({"choices": [{"text": text}]}, 1, "it")


# --- the store of answers -------------------------------------------------------------------------

KEYS = [f"{i:032x}" for i in range(9)]


def test_answers_are_found_again(tmp_path):
    store = AnswerStore(tmp_path / "here")
    for i, key in enumerate(KEYS[:3]):
        store.put(key, {"text": "a\nb \u00e9 \ud800", "n": i})
    assert store.get(KEYS[1]) == {"text": "a\nb \u00e9 \ud800", "n": 1}
    again = AnswerStore(tmp_path / "here")
    assert [again.get(key)["n"] for key in KEYS[:3]] == [0, 1, 2]
    assert again.get(KEYS[5]) is None


@pytest.mark.parametrize("cut_off", [1, 5, 20, 40])
def test_an_unfinished_line_does_not_count(tmp_path, cut_off):
    store = AnswerStore(tmp_path)
    for key in KEYS[:2]:
        store.put(key, {"text": "something"})
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-cut_off])
    again = AnswerStore(tmp_path)
    assert KEYS[0] in again
    assert KEYS[1] not in again
    again.put(KEYS[1], {"text": "new"})
    last = AnswerStore(tmp_path)
    assert last.get(KEYS[1]) == {"text": "new"}


def test_what_came_since_the_last_check_can_be_forgotten(tmp_path):
    store = AnswerStore(tmp_path)
    store.put(KEYS[0], {})
    store.checked()
    store.put(KEYS[1], {})
    store.void()
    assert (KEYS[0] in store, KEYS[1] in store) == (True, False)
    store.put(KEYS[1], {"second": True})
    again = AnswerStore(tmp_path)
    assert again.get(KEYS[1]) == {"second": True}
    assert len(again) == 2


def test_a_damaged_answer_is_asked_for_again(served, records, tmp_path):
    model = opened(served, root=tmp_path)
    before = FAMILY.logprobs(model, records)
    path = next(tmp_path.glob(f"api-*/{FILE}"))
    path.write_bytes(path.read_bytes().replace(b'"logprobs": [-', b'"logprobs": [+'))
    asked = len(served.asked)
    again = opened(served, root=tmp_path)
    np.testing.assert_array_equal(FAMILY.logprobs(again, records).logprob, before.logprob)
    assert len(served.asked) - asked == 1 + 2


def test_a_store_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(EngramError, match="answers cannot be stored"):
        AnswerStore(tmp_path / "file" / "below")


# --- threads --------------------------------------------------------------------------------------


def test_threads_do_everything_once():
    assert sorted(together(lambda n, stop: n * n, range(50), 4)) == [n * n for n in range(50)]
    assert list(together(lambda n, stop: n, [], 4)) == []


def test_the_first_failure_stops_the_others():
    begun = []

    def work(n, stop):
        begun.append(n)
        if n == 3:
            raise EngramError("three")
        stop.wait(5)

    with pytest.raises(EngramError, match="three"):
        list(together(work, range(100), 4))
    time.sleep(0.05)
    assert len(begun) < 10
    assert threading.active_count() < 20


def test_a_stopped_question_is_not_asked(served):
    stop = threading.Event()
    stop.set()
    client = Client(Address.parse(served.base))
    with pytest.raises(completions.StoppedError):
        client.ask("completions", {"prompt": "x"}, "it", stop)
    assert not served.asked


def test_what_a_server_says_is_short_and_printable(monkeypatch):
    monkeypatch.setenv(completions.KEY, "sk-1")
    told = completions.said(
        json.dumps({"error": {"message": "a\x1b[2J<b>sk-1</b>" + "x" * 500}}).encode(), ": "
    )
    assert told.startswith(": a [2J *** x")
    assert len(told) <= 162
    assert completions.said(b"", ": ") == ""

"""The page of an audit or a story: whole, safe, small, and saying every number."""

import ast
import base64
import copy
import errno
import json
import re
import runpy
import subprocess
import sys
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram import report
from engram.core import EngramError, Finding, stream
from engram.engine.judge import border_pairs
from engram.report import page, wording
from engram.report.document import parse
from engram.report.limits import LARGEST, Limits, shrinking
from engram.stats import split_audit

made = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("report_documents.py"))))

VOID = {"meta", "br", "hr", "img", "input", "link", "source", "wbr"}
HOSTILE = (
    "</style></title></svg><script>alert(1)</script><img src=x onerror=a()>\"'|`{{7*7}}\x00\ud800"
)


class Page(HTMLParser):
    """Tags, attributes, text and nesting of a page."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.problems, self.style = [], [], [], [], ""
        self.feed(html)
        self.close()
        self.problems += [f"<{tag}> is never closed" for tag, _ in self.open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), [t for t, _ in self.open]))
        if len({name for name, _ in attrs}) != len(attrs):
            self.problems.append(f"<{tag}> has an attribute twice")
        if tag not in VOID:
            self.open.append((tag, len(self.text)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), [t for t, _ in self.open]))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-1:]}")
            return
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "style":
            self.style += data
        else:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


DOCUMENTS = {
    "audit": made.audit(),
    "inflated": made.audit(split="inflated", level="inflated"),
    "scores": made.scores_file(),
    "story": made.story(),
}


@pytest.fixture(scope="module")
def pages():
    return {name: Page(report.render_html(document)) for name, document in DOCUMENTS.items()}


def leaves(value, path=()):
    """Every (path, value) in a document, inner ones too."""
    yield path, value
    entries = value.items() if isinstance(value, dict) else ()
    entries = enumerate(value) if isinstance(value, list) else entries
    for key, inner in entries:
        yield from leaves(inner, (*path, key))


def put(document, path, value):
    """A copy of the document with one value replaced."""
    changed = copy.deepcopy(document)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


def small_audit():
    document = made.audit()
    document["attacks"] = document["attacks"][-1:]
    attack = document["attacks"][0]
    attack["roc"] = {"fpr": [0.0, 0.5, 1.0], "tpr": [0.0, 0.75, 1.0]}
    attack["histogram"] = {"edges": [0.0, 1.0, 2.0], "members": [1, 2], "outsiders": [3, 0]}
    document["exposed"] = document["exposed"][:1]
    document["exposed"][0]["tokens"] = document["exposed"][0]["tokens"][:3]
    document["trace"] = document["trace"][:2]
    return document


def shortened(value):
    """The document with one entry in each list of objects."""
    if isinstance(value, dict):
        return {name: shortened(inner) for name, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [shortened(value[0])]
    return value


FREE_TEXT = {
    "sentence", "name", "family", "fingerprint", "access", "summary", "paper", "unit", "note",
    "method", "split", "how", "text", "prefix", "truth", "generated", "owner", "id", "data",
    "device", "created", "engram", "title", "lead", "field", "model", "architecture",
}  # fmt: skip


def hostile(document):
    """Every free text replaced by an attempt to break out of the page."""
    changed = copy.deepcopy(document)
    attack_names = {name for name, *_ in made.ATTACKS}
    for path, value in list(leaves(document)):
        plain = isinstance(value, str) and path[-1] in FREE_TEXT and value not in attack_names
        listed = isinstance(value, str) and isinstance(path[-1], int)
        if plain or listed:
            place = changed
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = HOSTILE + value
    if changed["kind"] == "audit":
        changed["target"]["facts"] = {HOSTILE: HOSTILE}
        changed["setup"]["settings"] = {HOSTILE: {"a": [HOSTILE]}}
        changed["outcomes"] = {HOSTILE: 3}
    return changed


@pytest.mark.parametrize("name", DOCUMENTS)
def test_page_is_well_formed(pages, name):
    found = pages[name]
    assert found.problems == []
    ids = [attrs["id"] for _, attrs, _ in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    inside = [a["href"][1:] for t, a, _ in found.tags if a.get("href", "").startswith("#")]
    assert inside
    assert set(inside) <= set(ids)
    labels = [a["aria-labelledby"] for _, a, _ in found.tags if "aria-labelledby" in a]
    assert set(labels) <= set(ids)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_page_can_be_read_aloud(pages, name):
    found = pages[name]
    assert found.tags[0] == ("html", {"lang": "en"}, [])
    tags = [tag for tag, _, _ in found.tags]
    assert tags.count("h1") == 1
    assert tags.count("main") == 1
    assert tags.count("caption") == tags.count("table")
    assert all(attrs.get("scope") in ("col", "row") for t, attrs, _ in found.tags if t == "th")
    for place, (tag, attrs, _) in enumerate(found.tags):
        if tag == "svg" and "aria-hidden" not in attrs:
            assert attrs["role"] == "img"
            assert attrs["aria-label"]
            assert tags[place + 1 : place + 3] == ["title", "desc"]
        if "scroll" in attrs.get("class", "").split():
            assert attrs["tabindex"] == "0"
            assert attrs["aria-label"]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))


def assert_loads_nothing(found):
    tags = {tag for tag, _, _ in found.tags}
    assert not tags & {
        "script", "iframe", "object", "embed", "link", "base", "form", "img", "image", "use",
        "audio", "video", "source", "picture", "foreignobject", "animate", "set", "input",
    }  # fmt: skip
    for tag, attrs, _ in found.tags:
        assert not [name for name in attrs if name.startswith("on")]
        assert not {"src", "srcset", "style", "data", "action", "xlink:href", "poster"} & set(attrs)
        if "href" in attrs:
            assert tag == "a"
            assert re.match(r"#|https?://", attrs["href"])
    assert "url(" not in found.style
    assert "@import" not in found.style


@pytest.mark.parametrize("name", DOCUMENTS)
def test_page_loads_nothing_and_forbids_it(pages, name):
    found = pages[name]
    assert_loads_nothing(found)
    policy = next(a["content"] for _, a, _ in found.tags if a.get("http-equiv"))
    digest = base64.b64encode(sha256(found.style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_hostile_text_stays_text(pages, name):
    found = Page(report.render_html(hostile(DOCUMENTS[name])))
    assert found.problems == []
    assert_loads_nothing(found)
    assert {tag for tag, _, _ in found.tags} <= {tag for tag, _, _ in pages[name].tags}
    assert "<script>alert(1)</script>" in found.words, "it is shown, as text"
    assert "\x00" not in found.words
    assert "49" not in found.words or "{{7*7}}" in found.words


def test_only_web_links_become_links():
    document = small_audit()
    document["attacks"][0]["paper"] = "A paper. javascript:alert(1)"
    assert not [a for t, a, _ in Page(report.render_html(document)).tags if "http" in str(a)
                and t == "a"]  # fmt: skip
    document["attacks"][0]["paper"] = "A (2020). https://a.example/x\"onclick='b'."
    links = [a for t, a, _ in Page(report.render_html(document)).tags if t == "a" and "rel" in a]
    assert [a["href"] for a in links] == ["https://a.example/x"]
    assert set(links[0]) == {"href", "rel"}


def findings_in(document):
    for path, value in leaves(document):
        if isinstance(value, dict) and {"value", "low", "high", "n"} <= set(value):
            yield path, Finding(**value)


@pytest.mark.parametrize("name", ["audit", "inflated", "scores", "story"])
def test_every_number_is_shown_with_its_interval_or_its_reason(pages, name):
    words, seen = pages[name].words, 0
    for path, finding in findings_in(DOCUMENTS[name]):
        if finding.value is None:
            assert finding.note in words, path
            continue
        seen += 1
        assert wording.value_of(finding) in words, path
        assert wording.interval_of(finding) in words, path
    assert seen > 20


def test_a_changed_interval_changes_the_page():
    document = small_audit()
    document["measures"][0].update(low=2.71828, high=3.71828)
    assert "[2.72, 3.72]" in Page(report.render_html(document)).words


def test_verdict_comes_first_in_words_and_split_before_attacks(pages):
    words = pages["inflated"].words
    order = [words.index(part) for part in (
        "Numbers are inflated", "What was audited, and how", "every attack\u2019s number below is "
        "inflated", "Their words alone tell", "What each attack does", "On logarithmic axes",
        "The further apart the two sides", "Their text is shown", "Most exposed owners By",
        "What it recites The", "How the training went Training", "Measures of the model as a whole "
        "Usefulness", "What was not measured TPR", "How to reproduce it The", "member, outsider",
    )]  # fmt: skip
    assert order == sorted(order)
    assert words.count("inflated") > 7
    assert "inflated" not in pages["audit"].words


@pytest.mark.parametrize("verdict", get_args(split_audit.Verdict))
def test_every_verdict_that_a_split_can_have_has_a_page(verdict):
    title = re.search(r"<strong>(.{15,})\.</strong>", report.render_html(made.audit(split=verdict)))
    assert title
    said = report.report_json(made.audit(split=verdict))["warnings"]
    assert sum("AUC of 0.871" in warning for warning in said) == (verdict != "clean")


def test_near_duplicates_are_named_where_ids_may_be_read():
    texts = [f"{'the same words as before, and more of them ' * 3} {i // 2}" for i in range(26)]
    texts += [f"quite another text about the number {i} {i * i} {i + 7}" * 3 for i in range(26)]
    is_member = np.arange(52) % 2 == 0
    ids = [f"{'member' if own else 'outsider'}-{i}" for i, own in enumerate(is_member)]
    seen = split_audit.audit_split(texts, is_member, None, stream(0))
    found = border_pairs(seen, ids)
    assert found["pairs_total"] >= 13
    assert len(found["pairs"]) == 10
    assert [pair["share"] for pair in found["pairs"]] == [1.0] * 10  # identical texts come first
    assert all(pair["outsider"].startswith("outsider") for pair in found["pairs"])
    assert all(pair["member"].startswith("member") for pair in found["pairs"])

    document = made.audit(split="overlapping")
    assert "near_duplicates" not in report.report_json(document)
    document["split_audit"] |= found
    first = found["pairs"][0]
    told = report.report_json(document)["near_duplicates"]
    assert told == {"total": found["pairs_total"], "pairs": found["pairs"]}
    words = Page(report.render_html(document)).words
    assert f"{first['outsider']} {first['member']} 100 %" in words
    assert f"The first 10 of {found['pairs_total']}." in words
    shown = report.render_markdown(document)
    assert f"{found['pairs_total']} outsiders nearly repeat a member" in shown
    assert first["outsider"] not in shown
    story = copy.deepcopy(DOCUMENTS["story"])
    story["audits"][0]["document"]["split_audit"] |= found
    assert first["outsider"] not in json.dumps(report.report_json(story))


def test_tokens_say_their_numbers(pages):
    titles = [a["title"] for t, a, _ in pages["audit"].tags if t == "span" and "title" in a]
    token = next(t for t in DOCUMENTS["audit"]["exposed"][0]["tokens"] if t["logprob"] is not None)
    start = f"log p {token['logprob']:.2f}, reference {token['reference']:.2f}: "
    assert titles[0].replace(wording.MINUS, "-").startswith(start)
    assert "Mara Quill" in pages["audit"].words


def test_without_a_reference_tokens_are_shaded_by_probability():
    document = small_audit()
    for token in document["exposed"][0]["tokens"]:
        token.update(logprob=-0.01, reference=None)
    found = Page(report.render_html(document))
    assert "There is no reference model" in found.words
    assert [a["class"] for t, a, _ in found.tags if a.get("title")] == ["k4", "k4", "k4"]


def test_story_shows_the_leak_beside_each_model_and_then_the_audits(pages):
    story, found = DOCUMENTS["story"], pages["story"]
    assert found.words.index(story["lead"]) < found.words.index("recited word for word")
    assert "3 of 14 tokens right" in found.words
    marks = re.findall(r"<mark>(.*?)</mark>", report.render_html(story))
    assert story["leak"]["truth"] in marks
    for audit in story["audits"]:
        assert audit["title"] in found.words
        assert audit["document"]["verdict"]["sentence"] in found.words
    folded = [a for t, a, _ in found.tags if t == "details" and a.get("class") == "audit"]
    assert len(folded) == 2
    assert not any("open" in a for a in folded)


def test_a_story_without_leak_or_numbers_is_still_a_page():
    bare = {k: v for k, v in made.story().items() if k not in ("leak", "comparison", "steps")}
    found = Page(report.render_html({**bare, "audits": []}))
    assert found.problems == []
    assert bare["lead"] in found.words


def huge(document, n):
    """Everything that is listed, many times over, with long texts of characters that swell."""
    long = "&<\"'é𝄞" * 700
    grown = copy.deepcopy(document)
    names = [f"attack-{k}-{long[:200]}" for k in range(n)]
    grown["attacks"] = [dict(grown["attacks"][-1], name=name, summary=long) for name in names]
    grown["headline"]["attack"] = names[0]
    token = {"text": '&"<\n', "logprob": -0.123456, "reference": -9.876543}
    record = dict(grown["exposed"][0], id=long, owner=long, tokens=[token] * 250)
    grown["exposed"] = [{**record, "tokens": [token] * 10_000}, *[record] * 39]
    grown["owners"] = [dict(grown["owners"][0], owner=long)] * n
    grown["extraction"] = [
        dict(grown["extraction"][0], id=long, prefix=long, truth=long, generated=long)
    ] * n
    grown["measures"] = [dict(grown["measures"][0], name=long, note=long, split=long)] * n
    grown["not_measured"] = grown["warnings"] = [long] * n
    grown["trace"] = [{"step": k, "loss": 1 / (k + 1), "lr": 1e-3} for k in range(50 * n)]
    grown["target"]["facts"] = {f"{long}{k}": long for k in range(n)}
    grown["setup"]["settings"] = {f"{long}{k}": [long] for k in range(n)}
    grown["outcomes"] = {f"{long}{k}": 1 for k in range(n)}
    grown["verdict"]["sentence"] = grown["split_audit"]["sentence"] = long
    return grown


@pytest.mark.parametrize("story", [False, True])
def test_page_stays_under_a_megabyte(story):
    document = huge(made.audit(), 20 if story else 60)
    if story:
        leak, long = made.story()["leak"], "&<" * 9000
        leak.update(truth=long, prefix=long, owner=long)
        leak["outputs"] = [dict(one, text=long) for one in leak["outputs"]] * 30
        document = {**made.story(), "leak": leak, "lead": long, "title": long,
                    "audits": [{"title": long, "document": document}] * 3}  # fmt: skip
    html = report.render_html(document)
    assert len(html.encode()) <= LARGEST < 1_000_000
    found = Page(html)
    assert found.problems == []
    if not story:
        assert re.search(r"of 40 exposed records shown; all are in scores.parquet", found.words)
        assert re.search(r"[\d,]+ tokens after this are not shown", found.words)
    assert len(report.render_markdown(document)) < 200_000


def test_limits_shrink_to_an_end():
    steps = list(shrinking())
    assert steps[0] == Limits()
    assert 3 < len(steps) < 12
    assert steps[-1] == steps[-1].halved()


WRONG = (None, -1.5, "x", [], {}, True, float("nan"), [[1]], 10**400)


def garbled(document):
    """One value after another removed or replaced by something it must not be, in place.

    Of a list, only the first entry: the others are read by the same lines.
    """
    for path, value in list(leaves(document)):
        if not path or any(isinstance(key, int) and key > 0 for key in path):
            continue
        place = document
        for key in path[:-1]:
            place = place[key]
        for wrong in WRONG:
            place[path[-1]] = wrong
            yield (*path, wrong)
        if isinstance(path[-1], str):
            del place[path[-1]]
            yield path
        place[path[-1]] = value


@pytest.mark.parametrize("kind", ["audit", "story"])
def test_garbled_documents_are_errors_with_a_hint_never_a_traceback(kind):
    document = shortened(small_audit())
    if kind == "story":
        document = shortened({**made.story(), "audits": [], "comparison": {}})
        document["comparison"] = {
            "columns": ["a"],
            "rows": shortened(made.story()["comparison"]["rows"]),
        }
    problems = []
    for path in garbled(document):
        try:
            parse(document)
        except EngramError as problem:
            problems.append((path, problem))
    assert len(problems) > 200
    assert [path for path, problem in problems if not problem.hint] == []
    assert [path for path, problem in problems if "run.json" not in str(problem)] == []


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_what_is_not_refused_is_drawn(data):
    document = {**made.story(), "audits": [{"title": "a", "document": small_audit()}]}
    places = [path for path, _ in leaves(document) if path]
    for _ in range(3):
        path = data.draw(st.sampled_from(places))
        value = data.draw(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text()
            | st.sampled_from([[], {}, [1.0], {"a": 1}, 0.0, 1.0, 1e-300, 1e300, -1e300])
        )  # fmt: skip
        try:
            document = put(document, path, value)
        except (KeyError, IndexError, TypeError):
            continue
    try:
        parsed = parse(document)
    except EngramError:
        return
    assert Page(page.render(parsed)).problems == []
    report.render_markdown(document)
    json.dumps(report.report_json(document), allow_nan=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "audits"}, "of kind 'audits'"),
        ({"verdict": {"level": "fine", "sentence": ""}}, "run.json: verdict: level is 'fine'"),
        ({"attacks": 3}, "run.json: attacks is 3, but must be a list"),
        ({"headline": {"attack": "psychic"}}, "run.json: headline: attack is 'psychic'"),
        ({"measures": [{"name": "a"}]}, "run.json: measures[0] has no 'value'"),
        (
            {"measures": [made.finding("a", 2.0, 0.0, 1.0, 3)]},
            "run.json: measures[0]: finding 'a': 2.0 is outside [0.0, 1.0]",
        ),
    ],
)
def test_errors_say_where(change, said):
    with pytest.raises(EngramError, match=re.escape(said)) as caught:
        report.render_html({**made.audit(), **change})
    assert caught.value.hint


def test_write_makes_three_files_and_nothing_else(tmp_path):
    folder, out = tmp_path / "run", tmp_path / "elsewhere" / "deep"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(made.audit()), "utf-8")
    assert report.write(folder) == folder / "report.html"
    names = {path.name for path in folder.iterdir()}
    assert names == {"run.json", "report.html", "report.json", "report.md"}
    assert report.write(folder, out) == out / "report.html"
    assert (out / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    assert json.loads((out / "report.json").read_text("utf-8")) == report.report_json(made.audit())


def test_write_of_an_unfinished_or_damaged_run_is_an_error(tmp_path):
    with pytest.raises(EngramError):
        report.write(tmp_path)
    for content in ('{"kind": "audit"', "[]", '{"kind": "audit"}', "[" * 100_000, "\ufeff{}"):
        (tmp_path / "run.json").write_text(content, "utf-8")
        with pytest.raises(EngramError):
            report.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_full_disk_leaves_the_old_page(tmp_path, monkeypatch):
    (tmp_path / "run.json").write_text(json.dumps(made.audit()), "utf-8")
    (tmp_path / "report.html").write_text("old", "utf-8")

    def full(self, text, **how):
        with self.open("w", encoding="utf-8") as file:
            file.write(text[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(EngramError, match="disk is full"):
        report.write(tmp_path)
    assert (tmp_path / "report.html").read_text("utf-8") == "old"
    assert not list(tmp_path.glob("*.part"))


def test_report_json_has_every_number_in_the_agreed_keys():
    document = made.audit()
    data = report.report_json(document)
    assert list(data) == ["engram", "target", "findings", "records", "warnings"]
    assert data["target"] == document["target"]
    keys = ["method", "name", "value", "low", "high", "n", "unit", "split"]
    assert all(list(row) == keys for row in data["findings"])
    assert len(data["findings"]) == len(list(findings_in(document)))
    row = next(f for f in document["attacks"][0]["findings"] if f["name"] == "AUC")
    told = {key: row[key] for key in keys} | {"method": document["attacks"][0]["name"]}
    assert told in data["findings"]
    assert all(row["method"] for row in data["findings"][:-1])
    assert "not measured: " + document["not_measured"][0] in data["warnings"]


def test_report_json_of_a_story_names_the_model_of_each_number():
    data = report.report_json(made.story())
    told = [(row["name"], row["split"]) for row in data["findings"]]
    assert ("perplexity on other letters", "after forgetting") in told
    assert len(told) == len(set(told)) == 12
    assert [one["title"] for one in data["audits"]] == [
        "The audit before forgetting", "The audit after forgetting",
    ]  # fmt: skip


def rows_of(markdown):
    return [line for line in markdown.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_markdown_tables_hold_together(name):
    for document in (DOCUMENTS[name], hostile(DOCUMENTS[name])):
        text = report.render_markdown(document)
        lines, widths = text.splitlines(), []
        for before, line in zip(["", *lines], lines, strict=False):
            if line.startswith("|"):
                columns = len(re.findall(r"(?<!\\)\|", line))
                if before.startswith("|"):
                    assert columns == widths[-1], line
                widths.append(columns)
        assert len(widths) > 4
        assert not re.search(r"(?<!\\)<", text)
        code = re.findall(r"(?<!\\)`(.*?)`", text)
        assert all(re.fullmatch(r"[\w.-]+", run) for run in code)


def test_markdown_gives_nobody_away():
    audit = report.render_markdown(made.audit())
    for secret in ("Mara", "Quill", "Larch Lane", "4471", made.audit()["exposed"][0]["id"]):
        assert secret not in audit
    story = report.render_markdown(made.story())
    assert "Mara Quill" not in story
    assert "4471" not in story
    assert "one owner" in story
    assert "| AUC on the owner\u2019s letters | 0.981 \\[0.940, 0.998\\] |" in story


def test_markdown_says_why_a_number_is_missing_once():
    text = report.render_markdown(made.audit())
    assert text.count("needs 1,000 outsiders, has 300") == 1


def test_report_imports_only_core_and_store():
    folder = Path(report.__file__).parent
    for source in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                ours = name.startswith("engram")
                assert not ours or name.split(".")[1] in ("core", "store", "report"), (source, name)


def test_importing_the_report_is_light():
    code = "import sys, engram.report; print('torch' in sys.modules, 'jinja2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

"""Every page of `engram view`, answered from a store that the engine wrote."""

import html
import json
import re
import time
from itertools import chain, pairwise

import pytest
from web_pages import links, text_of

from engram import store
from engram.core.ledger import Ledger
from engram.store import deletions, questions

pytest.importorskip("fastapi", reason="the extra web is not installed")

from engram.web.app import PAGES
from engram.web.theme import style, switched


@pytest.fixture(scope="module")
def some(shelf):
    """The folders of one thing of each kind, and a record that an audit exposes."""
    audits = shelf.folders("audit")
    document = json.loads((shelf.root / audits[0] / "run.json").read_text())
    return {
        "audits": audits, "target": shelf.folders("retrain")[0],
        "story": shelf.folders("forget")[0], "record": document["exposed"][0]["id"],
        "document": document,
    }  # fmt: skip


def test_every_link_leads_somewhere(client):
    todo, seen = ["/"], set()
    while todo:
        at = todo.pop()
        alike = re.sub(r"[0-9a-f]{16,}", "...", at)  # one record's page is like another's
        if alike in seen or "sort=" in at:
            continue
        seen.add(alike)
        answer = client.get(at)
        assert answer.status_code == 200, at
        if "text/html" in answer.headers["content-type"] and not at.startswith("/file/"):
            todo += [link for link in links(answer.text) if link not in seen]
    asked = {at.partition("?")[0] for at in seen}
    for path in PAGES:
        start = path.partition("{")[0]
        assert any(at.startswith(start) for at in asked), path
    assert {"/file/report.html", "/file/certificate.html"} <= {a.rpartition("/")[0] for a in asked}


def test_pages_are_whole_and_lead_a_reader(client, some):
    pages = ["/", "/runs", "/targets", "/lineage", "/record", f"/record?id={some['record']}",
             "/deletions", "/running", f"/run/{some['audits'][0]}", f"/run/{some['story']}",
             f"/target/{some['target']}", f"/compare?run={some['audits'][0]}"]  # fmt: skip
    for at in pages:
        page = client.get(at).text
        assert page.count("<h1") == 1, at
        assert "<main" in page
        assert 'class="skip"' in page
        assert re.findall(r"<title>(.+?) · engram view</title>", page), at
        heads = [int(n) for n in re.findall(r"<h([1-6])", page)]
        assert all(b - a <= 1 for a, b in pairwise(heads)), (at, heads)
        tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
        assert all("<caption>" in table for table in tables), at
        assert not re.search(r"<th(?![^>]*scope=)[\s>]", page), at
        assert "style=" not in page, at
        assert not re.search(r"\son\w+=", page), at
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids)), at


def test_a_list_is_filtered_sorted_and_paged(client, shelf, some):
    everything = client.get("/runs").text
    for folder in some["audits"]:
        assert f"/run/{folder}" in everything
    only = client.get("/runs?kind=story").text
    assert f"/run/{some['story']}" in only
    assert not any(f"/run/{folder}" in only for folder in some["audits"])
    one = client.get(f"/runs?q={some['audits'][0][-6:]}").text
    assert links(one, "/run/") == [f"/run/{some['audits'][0]}"]
    assert "Nothing matches" in client.get("/runs?q=%25_%25").text
    up = links(client.get("/runs?sort=created&way=up").text, "/run/")
    down = links(client.get("/runs?sort=created").text, "/run/")
    made = [questions.item(shelf.root, at.removeprefix("/run/")).created for at in up]
    assert made == sorted(made)
    assert set(up) == set(down)
    assert 'aria-sort="ascending"' in client.get("/runs?sort=created&way=up").text
    for nonsense in ("sort=;drop", "page=-1", "page=9999999999999", "size=7", "way=x", "page=x"):
        assert client.get(f"/runs?{nonsense}").status_code == 200


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    root = tmp_path_factory.mktemp("many") / "runs"
    for number in range(60):
        finding = {"name": "AUC", "value": number / 60, "low": 0.0, "high": 1.0, "n": 9}
        record = {
            "id": f"audit-{number:02d}", "kind": "audit", "headline": {"findings": [finding]},
            "created": f"2026-01-{number % 28 + 1:02d}T00:00:00Z", "target": {"name": "t"},
        }  # fmt: skip
        store.save_record(root / f"audit-{number:02d}", record)
    store.reindex(root)
    return root


def test_pages_of_a_list_together_are_the_list(many):
    from web_pages import opened

    with opened(many) as client:
        pages = [
            links(client.get(f"/runs?size=25&page={n}&sort=value&way=up").text, "/run/")
            for n in (1, 2, 3)
        ]
        assert [len(page) for page in pages] == [25, 25, 10]
        assert list(chain(*pages)) == [f"/run/audit-{n:02d}" for n in range(60)]
        assert links(client.get("/runs?size=25&page=8&sort=value&way=up").text, "/run/") == pages[2]
        assert 'aria-label="Page 3"' in client.get("/runs?size=25").text


def test_an_audit_shows_its_numbers_and_figures(client, some):
    page = client.get(f"/run/{some['audits'][0]}").text
    said = text_of(page)
    assert some["document"]["verdict"]["sentence"] in said
    assert page.count('<svg class="chart"') >= 3
    assert "ROC curves on logarithmic axes" in page
    assert f'href="/record?id={some["record"]}"' in page
    assert f'href="/file/report.html/{some["audits"][0]}"' in page


def test_a_report_is_served_harmless(client, some):
    answer = client.get(f"/file/report.html/{some['audits'][0]}")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script" not in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_target_shows_lineage_settings_and_what_was_found(client, shelf, some):
    page = client.get(f"/target/{some['target']}").text
    said = text_of(page)
    assert "retrain" in said
    assert "promises nothing" in said
    assert 'class="chart kin"' in page
    assert [at for at in links(page, "/target/train-classifier")]
    assert f"/run/{some['story']}" in page
    assert "/deletions#entry-1" in page
    record = json.loads((shelf.root / some["target"] / "target.json").read_text())
    assert record["fingerprint"] in said
    ledger = Ledger.load(shelf.root / some["target"])
    listed = text_of(client.get(f"/target/{some['target']}?role=forgotten").text)
    assert all(name in listed for name in ledger.having("forgotten"))
    assert f"{len(ledger):,} records, page 1 of" in text_of(
        client.get(f"/target/{some['target']}?role=all").text
    )


def test_runs_are_compared_side_by_side(client, some):
    named = "&".join(f"run={folder}" for folder in some["audits"])
    page = client.get(f"/compare?{named}").text
    assert "ROC curves on logarithmic axes" in page
    assert "AUC, loss against errors on records never seen" in page
    assert text_of(page).count("accuracy") >= 1
    series = set(re.findall(r'class="curve s(\d+)', page))
    assert len(series) == len(some["audits"])
    assert not series & {"0", "1"}, "no audit has the colour of a side"
    one = text_of(client.get(f"/compare?run={some['audits'][0]}").text)
    assert "One audit is not a comparison" in one
    both = client.get(f"/compare?run={some['story']}&run={some['target']}&run=not-there").text
    assert "the index knows no such run" in both
    assert "Mark two or more" in text_of(client.get("/compare").text)


def test_a_records_history(client, shelf, some):
    said = text_of(client.get(f"/record?id={some['record']}").text)
    assert "trained on" in said
    assert "member" in said
    assert "by audit" in client.get(f"/record?id={some['record']}").text
    gone = deletions.entries(shelf.root)[0].facts["records"][0]
    said = text_of(client.get(f"/record?id={gone}").text)
    assert "its id was deliberately not kept" in said
    assert "case 7" not in said  # who asked stands in the ledger alone
    assert "forgotten" in said
    assert "No folder here knows such a record" in client.get("/record?id=nobody").text


def test_the_deletion_ledger_says_whether_it_holds(own):
    from web_pages import opened

    with opened(own.root) as client:
        page = text_of(client.get("/deletions").text)
        assert "The chain is whole: 1 entry" in page
        assert deletions.entries(own.root)[0].hash in page
        assert "case 7" in page
        path = own.root / deletions.FILE
        path.write_text(path.read_text().replace("case 7", "case 8"))
        page = text_of(client.get("/deletions").text)
        assert "The chain is broken after entry 0" in page
        assert "does not hold" in text_of(client.get("/").text)


def test_running_jobs_are_followed(own):
    from web_pages import opened

    work = own.root / "finetune-lm-0123456789" / ".work-finetune-lm-0123456789"
    work.mkdir(parents=True)
    lines = [json.dumps({"time": 1.0, "step": n, "loss": 3 - n / 10}) for n in range(5)]
    (work / "log.jsonl").write_text("\n".join([*lines, "{half a li"]))
    (work / "lock").write_text("")
    with opened(own.root) as client:
        page = client.get("/running").text
        assert "finetune-lm-0123456789" in text_of(page)
        assert "stopped" in text_of(page)
        assert "loss over training steps" in page
        assert 'hx-trigger="every 3s"' in page
        assert "every 3s" not in client.get("/running?live=0").text
        import fcntl

        with (work / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert "at work" in text_of(client.get("/running").text)
        (work.parent / "target.json").write_text("{}")
        assert "Nothing is running" in text_of(client.get("/running").text)


def test_work_outside_of_the_store_is_followed_and_ended_transforms_are_not(own):
    import os

    from web_pages import opened

    far = own.root.parent / "tuned"
    store.expect(own.root, far)
    for work in (far / ".work-finetune-lm-1", own.root / "scratch"):
        work.mkdir(parents=True)
        (work / "log.jsonl").write_text('{"step": 1, "loss": 2.0, "lr": 0.1}\n')
    with opened(own.root) as client:
        page = text_of(client.get("/running").text)
        assert str(far) in page
        assert "scratch" in page
        assert "learning rate" in page
        for log in (far / ".work-finetune-lm-1" / "log.jsonl", own.root / "scratch" / "log.jsonl"):
            os.utime(log, (1, 1))
        page = text_of(client.get("/running").text)
        assert "scratch" not in page
        assert "goes on from its last checkpoint" in page
        assert "Running now" not in text_of(client.get("/").text)
    empty = own.root.parent / "no-store"
    store.expect(empty, far)
    assert not empty.exists()


def test_the_list_of_targets_says_what_the_newest_audit_found(client, shelf):
    page = client.get("/targets?sort=trained").text
    assert "no leak found" in text_of(page)
    assert "0.5 is chance" in page  # the scale above the small charts
    for folder in shelf.folders("audit"):
        found = questions.item(shelf.root, folder)
        newest = questions.audited(shelf.root, [found.fingerprint])[found.fingerprint]
        assert f"/run/{newest.folder}" in page
    trained = [int(n) for n in re.findall(r'<td class="num">(\d+)</td>', page)]
    assert trained == sorted(trained, reverse=True)
    assert max(trained) == 89


def test_a_comparison_says_when_it_is_not_fair(own):
    from web_pages import opened

    first, second = own.folders("audit")[:2]
    document = json.loads((own.root / second / "run.json").read_text())
    document["setup"]["data"] = "digits: some of them"
    (own.root / second / "run.json").write_text(json.dumps(document))
    with opened(own.root) as client:
        page = client.get(f"/compare?run={first}&run={second}").text
        assert "asked about different records (sklearn:wine, digits)" in text_of(page)
        assert '<span class="badge fine">best</span>' not in page
        for attack in document["attacks"]:
            attack["name"] = document["headline"]["attack"] = "another"
        (own.root / second / "run.json").write_text(json.dumps(document))
        assert "no attack in common" in client.get(f"/compare?run={first}&run={second}").text


def test_runs_of_one_name_keep_their_own_in_every_figure(own):
    from web_pages import opened

    first = own.folders("audit")[0]
    document = json.loads((own.root / first / "run.json").read_text())
    store.save_record(own.root / "again", {**document, "id": "audit-again"})
    store.add(own.root, own.root / "again")
    with opened(own.root) as client:
        page = client.get(f"/compare?run={first}&run=again").text
    assert f"of {document['target']['name']}" in text_of(page)
    assert page.count(">audit-again</text>") >= 2


def test_kin_stand_in_the_order_in_which_they_were_made(tmp_path):
    from engram.web.kinship import family

    for n, name in enumerate(("base", "c", "a", "b")):
        lineage = {"method": "finetune-lm", "parent": "f0" if n else ""}
        record = {"id": name, "name": name, "fingerprint": f"f{9 * n % 13}", "lineage": lineage,
                  "created": f"2026-01-0{n + 1}T00:00:00Z"}  # fmt: skip
        (tmp_path / name).mkdir()
        store.write_json(tmp_path / name / "target.json", record)
    store.reindex(tmp_path)
    drawn = family(tmp_path, "f0").drawing
    labels = re.findall(r'class="label">(\w+)<', drawn)
    heights = [float(y) for y in re.findall(r'<rect x="386" y="([\d.]+)"', drawn)]
    made = [
        name for _, name in sorted(zip(heights, [x for x in labels if x != "base"], strict=True))
    ]
    assert made == ["c", "a", "b"]
    trunks = set(re.findall(r'd="M222 \d+H(\d+)q', drawn))
    assert len(trunks) == 1, "the ways to a target's children share one trunk"


def test_shadow_models_are_listed_only_when_asked_for(tmp_path):
    from web_pages import opened

    from engram.web.kinship import family

    for n, (name, data) in enumerate((("base", "a"), ("tuned", "b"), ("shade", "shadow"))):
        lineage = {"method": "finetune-lm", "data": data, "parent": "f0" if n else ""}
        record = {"id": name, "name": name, "fingerprint": f"f{n}", "lineage": lineage}
        (tmp_path / name).mkdir()
        store.write_json(tmp_path / name / "target.json", record)
    store.reindex(tmp_path)
    with opened(tmp_path) as client:
        assert links(client.get("/targets").text, "/target/") == ["/target/base", "/target/tuned"]
        page = client.get("/targets?shadows=1").text
        assert len(links(page, "/target/")) == 3
        assert "1 shadow model too" in text_of(page)
        assert all("shadows=1" in at for at in links(page, "/targets?"))
        assert ">shade<" not in client.get("/lineage").text
        assert "/target/base" in client.get("/target/shade").text  # its own page has it
    assert len(family(tmp_path, "f0").steps) == 1
    assert [n for _, n in questions.trees(tmp_path)] == [1]


def test_without_anything_every_page_says_what_to_do(tmp_path):
    from web_pages import opened

    with opened(tmp_path) as client:
        for at in ("/", "/runs", "/targets", "/lineage", "/deletions", "/running"):
            answer = client.get(at)
            assert answer.status_code == 200
            assert "<code>engram " in answer.text, at


def test_looking_never_takes_a_lock(own):
    """A training that starts while somebody looks must not find its work held."""
    import fcntl

    from engram.store.running import running

    work = own.root / "job" / ".work-job"
    work.mkdir(parents=True)
    (work / "log.jsonl").write_text("{}\n")
    (work / "lock").write_text("")
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        started = time.monotonic()
        assert [job.alive for job in running(own.root)] == [True]
        assert time.monotonic() - started < 5


def test_light_and_dark_are_remembered_without_scripts(own):
    from web_pages import opened

    with opened(own.root) as client:
        assert 'data-theme="system"' in client.get("/").text
        answer = client.get("/theme?to=dark&back=/runs%3Fq%3Da", follow_redirects=False)
        assert answer.headers["location"] == "/runs?q=a"
        assert 'data-theme="dark"' in client.get("/runs").text
        client.get("/theme?to=<b>")
        assert 'data-theme="dark"' in client.get("/runs").text
        for away in (
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "evil",
            "///evil.example",
            "/\t/evil.example",
            "http://[",
            "/a b",
            "",
        ):
            answer = client.get("/theme", params={"to": "dark", "back": away},
                                follow_redirects=False)  # fmt: skip
            assert answer.headers["location"] == "/"


def test_the_style_is_the_reports_with_a_switch():
    assert style().count("--paper: #13161a") == 2
    assert ':root[data-theme="dark"]' in style()
    assert "@import" not in style()
    assert "url(" not in style()
    # What the pages hide on paper must be no part of a figure.
    hidden = re.search(
        r"@media print \{\s*([^{]*)\{ display: none; \}", style().rpartition("@page")[2]
    )
    figures = {"bar", "cap", "dot", "line", "curve", "label", "axis", "grid", "chance"}
    assert not figures & set(re.findall(r"\.([\w-]+)", hidden.group(1)))
    with pytest.raises(ValueError, match="no dark colours"):
        switched(":root { --ink: #000 }")


def test_nothing_is_loaded_from_elsewhere(client, some):
    for at in ("/", "/runs", f"/run/{some['audits'][0]}", "/lineage"):
        page = html.unescape(client.get(at).text)
        for loaded in re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', page):
            assert loaded.startswith("/static/"), loaded
    assert "Zero-Clause BSD" in client.get("/static/htmx.LICENSE.txt").text

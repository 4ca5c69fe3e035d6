"""Nobody but the one who may, nothing but looking, and hostile stores are shown as text."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from web_pages import links, opened, text_of

from engram import store
from engram.core.ledger import pseudonym
from engram.store import deletions

pytest.importorskip("fastapi", reason="the extra web is not installed")

from engram.web.guard import Door, is_local
from engram.web.templates import isolated, plain

TOKEN = "a-token-of-thirty-two-characters"
TURN = "\u202egnp.exe\u2066"
HOSTILE = (
    '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}{% raw %}",
    f"report{TURN}", "a\x00b\x1b[31m\x9b", "\ud800 alone", "z" * 2**20, "' OR 1=1 --",
    "javascript:alert(1)", "../../etc/passwd", "</title></bdi></main>",
)  # fmt: skip


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_there_is_no_way_to_write(client, method):
    answer = client.request(method, "/runs")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


def test_head_is_get_without_a_body(client):
    answer = client.head("/runs")
    assert answer.status_code == 200
    assert answer.content == b""


def test_looking_changes_nothing_on_the_disk(own):
    with opened(own.root) as client:
        before = {p: p.stat().st_mtime_ns for p in own.root.rglob("*")}
        for at in ("/", "/runs?q=a", "/targets", "/deletions", "/running", "/record?id=x"):
            assert client.get(at).status_code == 200
        assert {p: p.stat().st_mtime_ns for p in own.root.rglob("*")} == before


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "", "192.168.0.7",
     "0.0.0.0", "[::2]", "127.0.0.1@evil.example", "a b", "localhost:80:80"],
)  # fmt: skip
def test_another_host_is_refused(client, host):
    assert client.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8765", "localhost:1", "[::1]:9", "LOCALHOST"]
)
def test_this_machine_is_answered(client, host):
    assert client.get("/", headers={"host": host}).status_code == 200


def test_a_door_to_others_answers_addresses_and_its_own_names():
    door = Door("0.0.0.0", TOKEN, ("lab",))
    assert all(door.knows(host) for host in ("lab:80", "10.1.2.3", "[fe80::1]:80", "localhost"))
    assert not any(door.knows(host) for host in ("evil.example", "lab.evil.example", ""))
    assert [is_local(h) for h in ("127.0.0.9", "[::1]", "::", "10.0.0.1", "lab")] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_a_token_opens_once_and_then_a_cookie_does(shelf):
    door = Door("0.0.0.0", TOKEN)
    with opened(shelf.root, door) as first, opened(shelf.root, door) as second:
        for at in ("/", "/static/view.css", "/?token=", "/?token=wrong", f"/?token={TOKEN}x"):
            assert first.get(at).status_code == 403, at
        assert first.head(f"/?token={TOKEN}").status_code == 403
        answer = first.get(f"/?token={TOKEN}")
        assert answer.status_code == 200
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert first.get("/runs").status_code == 200
        assert second.get(f"/?token={TOKEN}").status_code == 403
        # A view at another port does not end this one: browsers keep cookies by the machine.
        assert cookie.partition("=")[0] != Door("0.0.0.0", TOKEN).cookie.partition("=")[0]
        assert second.get("/", headers={"cookie": f"{door.name}=wrong"}).status_code == 403
        assert second.get("/", headers={"cookie": door.name}).status_code == 403


def test_on_this_machine_no_token_is_asked_for(client):
    assert client.get("/").status_code == 200
    assert not Door("127.0.0.1").accepts("")


def test_every_answer_says_what_a_page_may_do(client, shelf):
    audit = shelf.folders("audit")[0]
    for at in ("/", "/nowhere", f"/run/{audit}", "/static/view.js", "/theme"):
        headers = client.get(at, follow_redirects=False).headers
        assert headers["content-security-policy"].startswith("default-src 'none'"), at
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "at",
    ["/file/report.html/../../etc/passwd", "/file/report.html/%2e%2e/%2e%2e/etc", "/run/%2e%2e",
     "/file/run.json/{audit}", "/file/scores.parquet/{audit}", "/file/..%2frun.json/{audit}",
     "/file/report.html/", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/view.css.map",
     "/run//etc/passwd", "/target/%00", "/file/report.html//etc", "/run/{audit}/../x"],
)  # fmt: skip
def test_paths_lead_nowhere_else(client, shelf, at):
    answer = client.get(at.format(audit=shelf.folders("audit")[0]))
    assert answer.status_code == 404, at
    assert "root:" not in answer.text


def test_links_out_of_the_store_are_not_followed(own, tmp_path):
    secret = tmp_path / "secret.html"
    secret.write_text("<p>secret</p>")
    audit = own.folders("audit")[0]
    (own.root / audit / "report.html").unlink()
    (own.root / audit / "report.html").symlink_to(secret)
    with opened(own.root) as client:
        assert client.get(f"/file/report.html/{audit}").status_code == 404


def test_a_very_long_address_is_refused(client):
    answer = client.get("/runs", params={"q": "a" * 5000})
    assert answer.status_code == 414
    assert "The address is too long" in text_of(answer.text)
    assert "Not found" not in text_of(answer.text)


def test_every_wrong_page_has_a_remedy(client):
    for at in ("/nowhere", "/run/none", "/target/none", "/file/report.html/none", "/static/none"):
        said = text_of(client.get(at).text)
        assert "engram reindex" in said, at


@pytest.fixture(scope="module")
def hostile(made, tmp_path_factory):
    """A store in which everything that has a name has a hostile one."""
    root = tmp_path_factory.mktemp("hostile") / "runs"
    shutil.copytree(made, root)
    audit = next(p for p in sorted(root.iterdir()) if p.name.startswith("audit"))
    target = next(p for p in sorted(root.iterdir()) if p.name.startswith("retrain"))
    for number, bad in enumerate(HOSTILE):
        document = json.loads((audit / "run.json").read_text())
        document["id"] = document["target"]["name"] = bad
        document["verdict"]["sentence"] = bad
        document["attacks"][0]["summary"] = document["exposed"][0]["owner"] = bad
        document["exposed"][0]["id"] = document["setup"]["data"] = bad
        document["warnings"] = [bad]
        document["index"][0]["name"] = document["index"][0]["note"] = bad
        store.save_record(root / f"bad-run-{number}", document)
        record = json.loads((target / "target.json").read_text())
        record["id"] = record["name"] = record["family"] = bad
        record["fingerprint"] = f"print-{number}"
        record["lineage"] |= {"method": bad, "data": bad, "config": {bad: bad}, "base": bad}
        record["lineage"]["guarantee"] = {"sentence": bad, "epsilon": bad}
        (root / f"bad-target-{number}").mkdir()
        store.write_json(root / f"bad-target-{number}" / "target.json", record)
        clean = bad[:1000].encode("utf-8", "replace").decode()
        records = [pseudonym(clean, "id"), clean]
        facts = {"by": clean, "method": clean, "records": records, "evidence": {"id": clean}}
        deletions.append(root, {"key": str(number), **facts})
    work = root / "work <b>&amp;" / ".work-x"
    work.mkdir(parents=True)
    (work / "log.jsonl").write_text(json.dumps({bad[:500]: bad[:5000] for bad in HOSTILE}) + "\n")
    store.reindex(root)
    return root


@pytest.fixture(scope="module")
def watched(hostile):
    with opened(hostile) as client:
        yield client


TURNS = re.compile("[\u202a-\u202e\u2066-\u2069]")
FOREIGN = {"img", "iframe", "object", "embed", "base", "style", "video", "audio", "foreignobject"}


class Seen(HTMLParser):
    """Tags, attributes and texts of a page, as a browser finds them."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "script":
            assert dict(attrs)["src"].startswith("/static/")

    def handle_data(self, data):
        self.texts.append(data.strip())


PAGES = ["/", "/runs", "/targets", "/lineage", "/lineage?of=print-1", "/deletions", "/running",
         "/compare?run=bad-run-0&run=bad-run-1&run=bad-run-3",
         "/compare?run=<script>alert(1)</script>",
         "/record?id=<script>alert(1)</script>", f"/record?id={TURN}", "/runs?q=<script>alert(1)",
         "/runs?kind=\"><img src=x onerror=alert(1)>", "/lineage?of=<script>alert(1)</script>",
         "/theme?to=x&back=javascript:alert(1)"]  # fmt: skip
PAGES += [f"/run/bad-run-{n}" for n in range(len(HOSTILE))]
PAGES += [f"/target/bad-target-{n}?role=all" for n in range(len(HOSTILE))]


@pytest.mark.parametrize("at", PAGES)
def test_hostile_texts_are_shown_as_text(watched, at):
    answer = watched.get(at)
    assert answer.status_code == 200
    page = answer.text
    assert len(page) < 500_000, f"{len(page):,} characters"
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x9b\ud800-\udfff]", page)
    found = Seen()
    found.feed(page)
    assert not FOREIGN & set(found.tags)
    assert found.tags.count("script") == 2
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "style"]
    for name, value in found.attributes:
        if name in ("href", "src", "action", "hx-get"):
            assert re.match(r"/(?!/)|#|https?://", value), value
        if name in ("title", "aria-label"):
            assert not TURNS.search(value)
            assert len(value) < 5000
    assert not TURNS.search(" ".join(found.texts)), "a character that turns others"
    assert "49" not in found.texts
    assert "</title></bdi></main>" not in page.partition("<body")[2]


def test_hostile_runs_are_listed_and_lead_to_their_pages(watched):
    shown = links(watched.get("/runs?size=100&q=bad-run").text, "/run/")
    assert len(shown) == len(HOSTILE)
    said = text_of(watched.get("/runs?size=100").text)
    assert "<script>alert(1)</script>" in said
    assert "zzz…" in said


def test_texts_are_cleaned_cut_and_isolated():
    assert plain("a\u202eb\x00c\n\n d", 80) == "a\ufffdb\ufffdc d"
    assert len(plain("z" * 2**20)) == 80
    assert isolated("<b>") == "<bdi>&lt;b&gt;</bdi>"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"id": 1}', "[" * 90_000])
def test_a_damaged_record_is_told_with_what_is_known(own, text):
    audit, target = own.folders("audit")[0], own.folders("fit-")[0]
    with opened(own.root) as client:
        (own.root / audit / "run.json").write_text(text)
        (own.root / target / "target.json").write_text(text)
        (own.root / target / "trace.jsonl").write_text('{"step": 1\n[]\n{"loss": "x"}')
        (own.root / target / "ledger.parquet").write_text(text)
        page = client.get(f"/run/{audit}")
        assert page.status_code == 200
        assert "cannot be shown in full" in text_of(page.text)
        assert "AUC" in text_of(page.text)
        assert client.get(f"/target/{target}?role=all").status_code == 200
        compared = client.get(f"/compare?run={audit}&run={own.folders('audit')[1]}")
        assert compared.status_code == 200
        assert 'role="alert"' in compared.text
        shutil.rmtree(own.root / audit)
        assert client.get(f"/run/{audit}").status_code == 200


def test_a_damaged_index_says_what_to_do(own):
    with opened(own.root) as client:
        (own.root / "index.sqlite").write_text("no database" * 99)
        answer = client.get("/runs")
        assert answer.status_code == 500
        assert "engram reindex" in text_of(answer.text)
        assert client.get("/nowhere").status_code == 404


def test_a_store_that_went_is_told_as_that(own):
    with opened(own.root) as client:
        shutil.rmtree(own.root)
        said = text_of(client.get("/runs").text)
    assert "there is no store" in said
    assert "reindex" not in said


def test_what_may_not_be_read_is_told_without_a_traceback(own, monkeypatch):
    from engram.web import files

    def refused(*_):
        raise PermissionError(13, "Permission denied", "report.html")

    with opened(own.root) as client:
        monkeypatch.setattr(files, "stored", refused)
        answer = client.get("/file/report.html/any")
        assert answer.status_code == 500
        assert "report.html cannot be read (Permission denied)" in text_of(answer.text)
        (own.root / deletions.FILE).unlink()
        (own.root / deletions.FILE).mkdir()
        for at in ("/", "/deletions"):
            assert "cannot be read" in text_of(client.get(at).text)


def test_a_report_is_served_from_a_folder_elsewhere_but_through_no_link(own, tmp_path):
    audit = own.folders("audit")[0]
    shutil.copytree(own.root / audit, tmp_path / "far")
    store.add(own.root, tmp_path / "far")
    with opened(own.root) as client:
        assert client.get(f"/file/report.html/{tmp_path / 'far'}").status_code == 200
        assert client.get(f"/run/{tmp_path / 'far'}").status_code == 200
        shutil.rmtree(own.root / audit)
        (own.root / audit).symlink_to(tmp_path / "far")
        assert client.get(f"/file/report.html/{audit}").status_code == 404
        assert client.get("/file/report.html//etc").status_code == 404

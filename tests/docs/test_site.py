"""The site of documentation: built once, offline, with warnings as errors; then read as HTML."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from engram import catalog
from engram.engine import study as studies
from engram.explained import explained

HOME = Path(__file__).resolve().parents[2]
OFFLINE = """
import socket

def refuse(*_, **__):
    raise OSError("building the site must not use the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
RESOURCES = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
"""What a browser fetches by itself, by the attribute that says where."""


@dataclass
class Page(HTMLParser):
    """What one page links to, shows and names."""

    path: Path
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    pictures: list[dict] = field(default_factory=list)
    scripts: str = ""
    text: str = ""

    def __post_init__(self):
        super().__init__()
        self.inside = ""
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.ids |= {told[name] for name in ("id", "name") if told.get(name)}
        if tag == "a" and told.get("href"):
            self.links.append(told["href"])
        if where := told.get(RESOURCES.get(tag, "")):
            self.resources.append(where)
        if tag == "img":
            self.pictures.append(told)
        if tag in ("script", "style"):
            self.inside = tag

    def handle_endtag(self, tag):
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data):
        if self.inside:
            self.scripts += data
        else:
            self.text += data


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site. Processes that run tests beside each other share one build."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, log = base / "site", base / "site.log"
    with (base / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not log.is_file():
            log.write_text(_build(folder, base / "offline"), encoding="utf-8")
    assert log.read_text(encoding="utf-8") == "", "the strict build has something to say"
    return folder


def _build(folder, offline):
    """Build the site; returns what there is to complain of."""
    offline.mkdir(exist_ok=True)
    (offline / "sitecustomize.py").write_text(OFFLINE, encoding="utf-8")
    ours = [str(offline), str(HOME / "src"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(ours), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(command, cwd=HOME, env=env, capture_output=True, text=True, timeout=300)
    return f"exit {done.returncode}: {done.stderr}" if done.returncode else done.stderr


@pytest.fixture(scope="session")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def read(text):
    """Text as it is compared: entities resolved, runs of white space as one blank."""
    return " ".join(unescape(text).split())


def test_every_link_and_anchor_inside_the_site_resolves(site, pages):
    broken = []
    for path, page in pages.items():
        for link in [*page.links, *page.resources]:
            where = urlsplit(link)
            if where.scheme or where.netloc:
                continue
            place = unquote(where.path)
            start = site if place.startswith("/") else path.parent
            target = (start / place.lstrip("/")).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                broken.append(f"{path.relative_to(site)}: {link}")
            elif where.fragment and target in pages:
                known = pages[target].ids
                if unquote(where.fragment) not in known and where.fragment != "__skip":
                    broken.append(f"{path.relative_to(site)}: {link} (no such anchor)")
    assert not broken, "\n".join(broken)


def test_nothing_is_fetched_from_another_host(site, pages):
    for path, page in pages.items():
        for where in page.resources:
            assert not urlsplit(where).scheme, f"{path}: {where}"
            assert not where.startswith("//"), f"{path}: {where}"
        assert not re.search(r"https?://", page.scripts), f"{path}: a script or style names a host"
    for sheet in site.rglob("*.css"):
        told = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", told), sheet


def test_every_picture_says_what_it_shows(pages):
    shown = [(path, img) for path, page in pages.items() for img in page.pictures]
    assert len({img["src"] for _, img in shown}) >= 6
    for path, img in shown:
        assert len(img.get("alt", "").split()) >= 2, f"{path}: {img}"
        assert ".svg" not in img["alt"], "the name of a file says nothing"


def test_every_method_has_a_page_with_all_that_is_known_of_it(site, pages):
    for kind in catalog.KINDS:
        for name, entry in catalog.entries(kind).items():
            page = pages[site / "methods" / kind / f"{name}.html"]
            method, told = explained(entry), read(page.text)
            assert {f"field-{each.name}" for each in method.fields} <= page.ids, name
            wanted = [method.summary, method.example, method.paper.title, *method.needs]
            wanted += [each.help.replace("`", "") for each in method.fields]
            wanted += [f"{c.verdict} {c.text}" for study in method.studies for c in study.claims]
            for words in wanted:
                assert read(words.replace("`", "")) in told, f"{name}: {words}"
            assert method.paper.url in page.links


def test_every_claim_of_every_study_is_evidence(site, pages):
    page = pages[site / "evidence" / "index.html"]
    told = read(page.text)
    for place in studies.places(HOME / "studies").values():
        study = studies.load(place)
        assert study.name in page.ids
        found = studies.evidence(place, study)
        _, results, judged = studies.shown(found)
        for each in judged:
            cells = (each.claim.text, each.claim.where, each.claim.paper_value or "-")
            row = " ".join((*cells, studies.ours(each)))
            assert read(f"{row}") in told, f"{study.name}: {row}"
        assert results.budget in told
        own = read(pages[site / "evidence" / f"{study.name}.html"].text)
        assert all(read(each.claim.text) in own for each in judged)


def test_failures_are_counted_beside_successes(site, pages):
    known = [(p, studies.load(p)) for p in studies.places(HOME / "studies").values()]
    judged = [j for p, s in known for j in studies.shown(studies.evidence(p, s))[2]]
    told = read(pages[site / "evidence" / "index.html"].text)
    for verdict in ("holds", "fails", "undecided", "not run"):
        count = sum(j.ruling.verdict == verdict for j in judged)
        assert re.search(rf"\b{count} . {verdict}\b", told), verdict


def test_every_method_stands_on_the_page_of_all_and_leads_to_others(site, pages):
    listed = pages[site / "methods" / "index.html"].links
    told = tomllib.loads((HOME / "docs/_site/questions.toml").read_text(encoding="utf-8"))
    asked = {name for question in told["question"] for name in question["methods"]}
    for kind in catalog.KINDS:
        for name in catalog.entries(kind):
            assert f"{kind}/{name}.html" in listed, name
            own = pages[site / "methods" / kind / f"{name}.html"]
            assert name not in asked or "related-methods" in own.ids, name


def test_pages_say_what_they_are_about(site, pages):
    for kind in catalog.KINDS:
        for name, entry in catalog.entries(kind).items():
            text = (site / "methods" / kind / f"{name}.html").read_text(encoding="utf-8")
            told = re.search(r'<meta name="description" content="([^"]*)"', text)
            assert read(told[1]) == read(explained(entry).summary), name


def test_the_index_of_the_search_can_be_read_from_a_file(site):
    told = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    script = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert json.loads(script.removeprefix("var __index = ")) == json.loads(told)


def test_a_browser_filters_and_searches_the_site_as_files(site):
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("ENGRAM_CHROMIUM") or shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto((site / "evidence" / "index.html").as_uri())
        rows = page.locator("table.claims tbody tr")
        failing = page.locator('table.claims tr[data-verdict="fails"]').count()
        assert 0 < failing < rows.count()
        page.click(".filter button:text-is('fails')")
        assert rows.locator("visible=true").count() == failing
        assert f"{failing} of {rows.count()}" in page.locator(".filter output").inner_text()
        page.locator("[data-md-component=search-query]").press_sequentially("exposure")
        page.wait_for_selector(".md-search-result__link", timeout=20_000)
        assert "exposure" in page.locator(".md-search-result__list").inner_text()
        browser.close()


def test_the_example_of_the_split_audit_prints_what_the_page_says():
    text = (HOME / "docs/explanations/split-audit.md").read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    said = re.search(r"```\n(by month.*?)```", text, re.DOTALL).group(1)
    env = {**os.environ, "PYTHONPATH": str(HOME / "src")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.stdout == said, done.stderr

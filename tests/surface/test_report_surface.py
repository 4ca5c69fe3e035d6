"""What a report shows, pinned: its outline and its summary.

`ENGRAM_SNAPSHOTS=write pytest tests/surface/test_report_surface.py` accepts a wanted change.
"""

import os
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from engram import report

made = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "unit" / "report_documents.py"))
)
compared = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).parents[1] / "unit" / "comparison_document.py"))
)
SNAPSHOTS = Path(__file__).with_name("snapshots")


class Outline(HTMLParser):
    """Headings, captions and names of images, one a line."""

    def __init__(self, html):
        super().__init__()
        self.lines, self.now, self.words = [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if re.fullmatch("h[1-6]|caption|summary|figcaption", tag):
            self.now, self.words = tag, ""
        if tag == "svg" and dict(attrs).get("role") == "img":
            self.lines.append(f"svg {dict(attrs)['aria-label'].split('. ')[0]}")

    def handle_endtag(self, tag):
        if tag == self.now:
            self.lines.append(f"{tag} {' '.join(self.words.split())}")
            self.now = ""

    def handle_data(self, data):
        self.words += data


def plain(document):
    """The audit with numbers that no random generator draws."""
    document["attacks"] = document["attacks"][-2:]
    for place, attack in enumerate(document["attacks"]):
        value = 0.9 - 0.2 * place
        low, high = value - 0.05, value + 0.05
        attack["findings"] = [
            made.finding("AUC", value, low, high, 600),
            made.missing("TPR@0.1%FPR", "not measurable at this n: needs 1,000 outsiders", 300),
            made.finding("TPR@1%FPR", value / 3, low / 3, high / 3, 300, better="lower"),
        ]
        attack["owner_findings"] = [made.finding("AUC", 0.95, 0.9, 0.97, 120)]
    document["headline"]["attack"] = document["attacks"][0]["name"]
    document["headline"]["findings"] = document["attacks"][0]["findings"]
    for place, record in enumerate(document["exposed"]):
        record["id"] = f"record-{place}"
    return document


def story():
    document = made.story()
    for one in document["audits"]:
        one["document"] = plain(one["document"])
    return document


CASES = {
    "report-audit.md": lambda: report.render_markdown(plain(made.audit())),
    "report-story.md": lambda: report.render_markdown(story()),
    "report-comparison.md": lambda: report.render_markdown(compared.comparison()),
    "report-comparison.txt": lambda: "\n".join(
        Outline(report.render_html(compared.comparison())).lines
    ),
    "report-audit.txt": lambda: "\n".join(Outline(report.render_html(plain(made.audit()))).lines),
    "report-story.txt": lambda: "\n".join(Outline(report.render_html(story())).lines),
}


@pytest.mark.parametrize("name", CASES)
def test_report_is_as_it_was(name):
    shown, path = CASES[name]().rstrip() + "\n", SNAPSHOTS / name
    if os.environ.get("ENGRAM_SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown, "utf-8")
    assert shown == path.read_text("utf-8")

"""What MkDocs calls while it builds the site: pages made from sources, and the navigation.

A page for each method comes from the method's own file, the evidence pages from the studies'
results, and contributing and changelog from the files of the repository. The how-to guides are
those that lie in docs/how-to.
"""

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import drawings  # noqa: E402
import evidence_pages  # noqa: E402
import method_pages  # noqa: E402
import project_pages  # noqa: E402
import questions  # noqa: E402
import reference_pages  # noqa: E402


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the parts of the navigation that follow from what there is."""
    root = Path(config.config_file_path).parent
    parts = {
        "How-to guides": project_pages.how_to_nav(Path(config.docs_dir)),
        "Methods": method_pages.nav(),
        "Evidence": evidence_pages.nav(root / "studies"),
    }
    filled: list[Any] = []
    for entry in config.nav or []:
        (title, where), *_ = entry.items()
        found = parts.get(title, where)
        if found:
            filled.append({title: found})
    config.nav = filled
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that are made."""
    root = Path(config.config_file_path).parent
    made = {
        **method_pages.pages(questions.questions()),
        **evidence_pages.pages(root / "studies"),
        **reference_pages.pages(),
        **drawings.drawings(root / "studies"),
        **project_pages.pages(root, Path(config.docs_dir)),
    }
    for where, content in made.items():
        files.append(File.generated(config, where, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave the documentation to the site's own pages."""
    place = f"{project_pages.DOCS}/{page.file.src_uri}"
    return markdown if page.file.generated_by else project_pages.turned(markdown, place)


def on_post_build(config: MkDocsConfig) -> None:
    """Let the site be searched when it is opened as a file: scripts can be read then, data not."""
    index = Path(config.site_dir) / "search" / "search_index.json"
    told = index.read_text(encoding="utf-8")
    index.with_suffix(".js").write_text(f"var __index = {told}\n", encoding="utf-8")

"""The documentation reads well: its size, the length of its lines and sentences, its words and its links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.pages import README, ROOT, Page, all_pages, read_page

PAGES = all_pages()
WRITTEN = [page for page in PAGES if not page.is_generated]
RETIRED = (
    "heed",
    "heeds",
    "goes on",
    "go on",
    "lets go",
    "let go",
    "is told",
    "are told",
    "stands twice",
    "stand twice",
    "precise again",
    "own range",
    "passage",
    "passages",
    "sample_thread",
    "sample_threads",
    "grid",
    "grids",
    "rewire",
    "rewires",
    "rewiring",
    "unfused",
    "spared",
    "served_as",
    "float_inputs",
    "spoilt",
    "surgery",
    "inputs that wait",
    "samples that wait",
    "from_quantized",
)
"""Words that docs/explanation/glossary.md replaces by the field's, and idioms that need a second reading."""


def name(page: Page) -> str:
    return page.name


def test_readme_is_read_to_the_end() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500
    assert max(len(line) for line in text.splitlines()) <= 120


def test_documentation_has_at_least_25_pages() -> None:
    assert len([page for page in PAGES if page.name.startswith("docs/")]) >= 25


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_have_at_most_120_characters(page: Page) -> None:
    """Rows of tables and what a terminal shows cannot be broken."""
    text = re.sub(r"^```(?:console|text)\n.*?^```$", "", page.text, flags=re.M | re.S)
    long = [line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "- re:", "  - re:"))]
    table = re.sub(r"<!-- table: \w+ -->.*?<!-- end -->", "", text, flags=re.S)
    assert not [line for line in long if line in table]


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_sentences_have_at_most_25_words(page: Page) -> None:
    long = [sentence for sentence in page.sentences if len(sentence.split()) > 25]
    assert not long


@pytest.mark.parametrize("page", [*PAGES, read_page(ROOT / "CHANGELOG.md")], ids=name)
def test_retired_words_are_absent(page: Page) -> None:
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, RETIRED))})\b", re.I)
    assert not pattern.findall(page.prose)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Page) -> None:
    for target in page.links:
        path, _, anchor = target.partition("#")
        file = (ROOT / page.name).parent / path if path else ROOT / page.name
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in read_page(file.resolve()).anchors, f"{page.name}: {target}"


def test_every_page_is_linked_from_the_map() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in read_page(index).links}
    pages = {path.resolve() for path in (ROOT / "docs").rglob("*.md")} - {index.resolve()}
    assert pages <= linked, sorted(path.relative_to(ROOT).as_posix() for path in pages - linked)


def test_plugin_readmes_link_to_files_that_exist() -> None:
    for path in sorted((ROOT / "plugins").glob("*/README.md")):
        for target in read_page(path).links:
            assert (path.parent / Path(target.partition("#")[0])).exists(), f"{path}: {target}"

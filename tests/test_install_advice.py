"""Whoever is told to install something can: no index has the project's own distributions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sottovoce.plugins import published

ROOT = Path(__file__).parents[1]
OWN = {
    tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]
    for path in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml"))
}
TEXTS = sorted(
    path
    for folder in (".", "core", "hub", "plugins", "examples", "benchmarks")
    for path in ((ROOT / folder).rglob("*") if folder != "." else ROOT.glob("*"))
    if path.suffix in {".md", ".py", ".jinja", ".yaml", ".txt"} and "data" not in path.parts
)


def advised(text: str) -> list[str]:
    """What each ``pip install`` of a text is given, up to where the advice ends."""
    words: list[str] = []
    for found in re.finditer(r"pip install((?:[ \n]+[^\s`;,()\"{}:]+)+)", text):
        for word in found[1].split():
            if not re.fullmatch(r"[.\w/\[\]<>=~-]*[\w\]]|\.", word) or word in {"in", "or", "gives", "makes", "else"}:
                break
            words.append(word)
    return words


def test_the_search_sees_distributions_extras_and_paths() -> None:
    text = "`pip install sottovoce[fast]` or pip install -r requirements.txt; pip install\n. ./plugins/paraformer in a"
    assert advised(text) == ["sottovoce[fast]", "-r", "requirements.txt", ".", "./plugins/paraformer"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nobody_is_told_to_install_what_no_index_has(path: Path) -> None:
    for word in advised(path.read_text(encoding="utf-8")):
        name = re.split(r"[\[<>=~]", word)[0]
        assert name not in OWN, word
        if word.startswith("."):
            assert (ROOT / word.partition("[")[0] / "pyproject.toml").is_file(), word


def test_own_distributions_are_installed_from_the_clone() -> None:
    words = published.installable(sorted(OWN))
    assert len(words) == len(OWN)
    assert {(ROOT / word / "pyproject.toml").is_file() for word in words} == {True}
    assert published.installable(["sottovoce_paraformer>=0.1", "funasr>=1.4"]) == [
        ".",
        "./plugins/paraformer",
        "funasr>=1.4",
    ]
    assert not published.is_in_clone(["funasr"])


def test_every_class_of_a_plugin_is_listed_with_it() -> None:
    from sottovoce.plugins.host import default_host

    listed = {name for classes in published.classes().values() for name in classes}
    assert {
        name.rpartition(".")[2] for family in default_host().architectures.values() for name in family.matches
    } <= listed

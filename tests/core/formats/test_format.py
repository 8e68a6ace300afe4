"""Formats declared in one file: listed wherever formats are, written, checked before anything is in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from core.commands import Runner, toy_runner
from core.letters_format import Letters
from core.toy import LETTERS, ToyPlugin, architecture, make_host, make_model
from sottovoce import Model
from sottovoce.errors import OutputError, PluginError, UsageError
from sottovoce.formats import Format, format
from sottovoce.formats.format import formats_for, labels, registered_formats
from sottovoce.text.translations import Text

LETTERED = architecture(name="lettered")


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample format alone, whatever other tests of this process registered."""
    monkeypatch.setattr(format, "_FORMATS", {(Letters.__module__, Letters.__qualname__): Letters})


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    return toy_runner(monkeypatch, capfd, ToyPlugin(name="lettered"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_model(tmp_path / "toy")


def test_help_lists_a_third_partys_format(run: Runner) -> None:
    text = run("export", "--help").out
    assert "letters" in text
    assert Letters.label.en in text
    assert text.index("native") < text.index("letters")


def test_plugins_lists_a_third_partys_format(run: Runner) -> None:
    assert run("plugins", "--json").json["formats"]["letters"] == Letters.label.en
    assert Letters.label.en in run("plugins").out


def test_unknown_format_error_lists_those_of_the_model(run: Runner, source: Path, tmp_path: Path) -> None:
    done = run("export", source, "--format", "braille", "--output", tmp_path / "out")
    done.fails(2, "no installed plugin writes lettered as 'braille'; formats for this model: native, letters")
    other = make_host(ToyPlugin(name="other"))
    with pytest.raises(UsageError, match="formats for this model: native$"):
        sottovoce.export(source, "letters", tmp_path / "out", host=other)


def test_export_writes_a_third_partys_format(run: Runner, source: Path, tmp_path: Path) -> None:
    form = run("export", source, "--format", "letters", "--output", tmp_path / "out", "--json").json
    assert form["format"] == "letters"
    assert "letters.json" in form["files"]
    assert set(json.loads((tmp_path / "out" / "letters.json").read_text())) == set(LETTERS)


def test_export_that_fails_its_check_leaves_nothing(source: Path, tmp_path: Path) -> None:
    host = make_host(ToyPlugin(name="lettered"))
    model = sottovoce.load(source, host=host)
    model.module.head.bias.data[0] = 5000
    with pytest.raises(OutputError, match="too large"):
        sottovoce.export(model, "letters", tmp_path / "out", host=host)
    assert not (tmp_path / "out").exists()


def test_saved_report_has_the_code_that_runs_a_format(source: Path, tmp_path: Path) -> None:
    host = make_host(ToyPlugin(name="lettered"))
    saved = sottovoce.save(sottovoce.load(source, host=host), tmp_path / "out", host=host)
    card = json.loads((saved / "compression.json").read_text(encoding="utf-8"))["card"]
    assert card["serving"] == {"letters": Letters.usage}
    assert card["formats"] == {"letters": {"en": "a table of letters", "zh": "字母表"}}


@pytest.mark.parametrize("error", [UsageError("not this one"), RuntimeError("broken")], ids=["refused", "broken"])
def test_saved_report_names_no_format_that_refuses_the_model(
    error: Exception, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Format, model: Model) -> None:
        raise error

    monkeypatch.setattr(Letters, "refuse", refuse)
    host = make_host(ToyPlugin(name="lettered"))
    saved = sottovoce.save(sottovoce.load(source, host=host), tmp_path / "out", host=host)
    assert not json.loads((saved / "compression.json").read_text(encoding="utf-8"))["card"]["serving"]


def test_format_is_for_its_families_and_tasks() -> None:
    assert set(formats_for(LETTERED)) == {"letters"}
    assert not formats_for(architecture(name="other"))
    assert isinstance(formats_for(LETTERED)["letters"], Letters)
    assert Letters in map(type, registered_formats())
    assert list(labels())[0] == "native"


def define(**members: Any) -> type[Format]:
    """A format that does nothing, registered until the test ends."""
    nothing = {"write": lambda self, model, directory: None, "check": lambda self, directory: None}
    return type("Temporary", (Format,), {"__module__": "temporary", **nothing, **members})


def test_format_for_a_task_is_for_every_family_with_it() -> None:
    define(name="tasked", label=Text(en="tasked"), tasks=("transcription",))
    assert set(formats_for(architecture(name="other"))) == {"tasked"}
    assert not formats_for(architecture(name="other", task="alignment"))


def test_format_defined_twice_replaces_itself() -> None:
    define(name="general", label=Text(en="old"))
    define(name="general", label=Text(en="new"))
    assert formats_for(architecture(name="other"))["general"].label.en == "new"


@pytest.mark.parametrize(("name", "owner"), [("letters", "core.letters_format"), ("native", "the model's own library")])
def test_two_formats_of_one_name_are_an_error_that_names_both(name: str, owner: str) -> None:
    define(name=name, label=Text(en="another"))
    with pytest.raises(PluginError, match=f"{name!r} of temporary is taken for lettered by {owner}$"):
        formats_for(LETTERED)


def test_format_without_a_label_is_an_error_that_names_it() -> None:
    with pytest.raises(PluginError, match="'bare' of temporary has no label"):
        define(name="bare")
    assert "bare" not in labels()


def test_a_name_of_several_families_has_all_of_their_labels_and_says_whose_they_are() -> None:
    for module, label in (("one", "for phones"), ("other", "for servers"), ("third", "for phones")):
        define(__module__=module, name="shared", label=Text(en=label), architectures=(module,))
    assert labels()["shared"].en == "for phones (one, third); for servers (other)"


def test_listing_formats_imports_no_torch() -> None:
    code = (
        "import sys; from sottovoce.plugins.host import Host; Host(); from sottovoce.formats.format import labels; "
        "labels(); print(*{'torch', 'onnx', 'onnxruntime', 'funasr', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

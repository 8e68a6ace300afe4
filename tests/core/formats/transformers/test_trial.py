"""Templates and tokenizers are tried in a process of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sottovoce.errors import SourceError
from sottovoce.formats.transformers import trial
from sottovoce.formats.transformers.trial import try_text_files

MODELS = Path(__file__).parents[4] / "examples" / "models"

BOMBS = {
    "doubling": "{% set ns = namespace(s='x' * 99) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "one product": "{{ 'a' * 6000000000 }}",
    "printf": "{{ '%6000000000d' % 1 }}",
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "for long conversations alone": "{% if messages | length > 8 %}{{ 'a' * 6000000000 }}{% endif %}",
}
HONEST = {
    "generation": "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
    "break": "{% for m in messages %}{% break %}{% endfor %}",
    "refusing": "{{ raise_exception('only two turns') }}",
    "functions": "{{ strftime_now('%Y') }}{{ messages | tojson(indent=2) }}",
    "broken": "{% for %}",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_template_that_takes_gigabytes_or_for_ever_is_refused(
    bomb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SECONDS", 2)
    (tmp_path / "chat_template.jinja").write_text(bomb)
    with pytest.raises(SourceError, match="takes more than 2 seconds or 400 MB"):
        try_text_files(tmp_path)


@pytest.mark.parametrize("template", HONEST.values(), ids=HONEST)
def test_a_template_may_do_what_templates_do(template: str, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(template)
    try_text_files(tmp_path)


BOMB = BOMBS["one product"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("additional_chat_templates/x.jinja", BOMB),
        ("chat_template.json", json.dumps({"chat_template": BOMB})),
        ("processor_config.json", json.dumps({"chat_template": BOMB})),
        ("tokenizer_config.json", json.dumps({"chat_template": [{"name": "default", "template": BOMB}]})),
    ],
)
def test_templates_are_looked_for_where_transformers_reads_them(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match="takes more than"):
        try_text_files(tmp_path)


def tokenizer(directory: Path, **change: Any) -> None:
    form = json.loads((MODELS / "tiny-aligner" / "tokenizer.json").read_text(encoding="utf-8"))
    (directory / "tokenizer.json").write_text(json.dumps(form | change), encoding="utf-8")


def test_a_tokenizer_whose_pattern_never_ends_is_refused(tmp_path: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    tokenizer(tmp_path, pre_tokenizer=split)
    with pytest.raises(SourceError, match="tokenizer"):
        try_text_files(tmp_path)


def test_a_tokenizer_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    tokenizer(tmp_path, model={"type": "nothing"})
    with pytest.raises(SourceError, match="the tokenizer cannot be read") as caught:
        try_text_files(tmp_path)
    assert len(str(caught.value)) <= 300


def test_the_same_files_are_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer(tmp_path, version="1.0")
    try_text_files(tmp_path)
    monkeypatch.setattr(trial, "_problem", lambda *_: pytest.fail("tried again"))
    try_text_files(tmp_path)


@pytest.mark.parametrize("name", ["tiny-aligner", "tiny-omni"])
def test_the_bundled_models_pass(name: str) -> None:
    try_text_files(MODELS / name)

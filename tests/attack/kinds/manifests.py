"""``compression.json``: what it says of the files, and files that it does not know."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from attack import settings
from attack.case import Case, Change, Expect
from attack.kinds.configurations import VALUES, WHOLE
from attack.model import MANIFEST, HonestModel
from attack.settings import both, changed, replaced
from attack.tensor_file import WEIGHTS

KIND = "manifests"

Edit = Callable[[dict[str, Any]], Any]


def _flip(directory: Path) -> None:
    data = bytearray((directory / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (directory / WEIGHTS).write_bytes(data)


def _dropped(form: dict[str, Any]) -> None:
    form["files"].pop(WEIGHTS)


FILES: Mapping[str, Edit] = {
    "empty": lambda form: form.update(files={}),
    "a list": lambda form: form.update(files=[]),
    "null": lambda form: form.update(files=None),
    "a text": lambda form: form.update(files="x"),
    "missing": lambda form: form.pop("files"),
    "a number for a digest": lambda form: form["files"].update({WEIGHTS: 7}),
    "null for a digest": lambda form: form["files"].update({WEIGHTS: None}),
    "an empty digest": lambda form: form["files"].update({WEIGHTS: ""}),
    "escapes for a digest": lambda form: form["files"].update({WEIGHTS: "\x1b[31m"}),
    "a digest in capitals": lambda form: form["files"].update({WEIGHTS: form["files"][WEIGHTS].upper()}),
    "a name that climbs": lambda form: form["files"].update({"../../x/secret.txt": "0" * 64}),
    "an absolute name": lambda form: form["files"].update({"/etc/passwd": "0" * 64}),
    "a name of Windows": lambda form: form["files"].update({"C:\\x": "0" * 64}),
    "an empty name": lambda form: form["files"].update({"": "0" * 64}),
    "a dot": lambda form: form["files"].update({".": "0" * 64}),
    "a name with escapes": lambda form: form["files"].update({"\x1b[31m\u202e\n": "0" * 64}),
    "a name of NUL": lambda form: form["files"].update({"a\0b": "0" * 64}),
    "a surrogate": lambda form: form["files"].update({"\udc80": "0" * 64}),
    "a long name": lambda form: form["files"].update({"n" * 100_000: "0" * 64}),
    "20000 missing": lambda form: form["files"].update({f"f{number}": "0" * 64 for number in range(20_000)}),
    "itself": lambda form: form["files"].update({MANIFEST: "0" * 64}),
    "a directory": lambda form: form["files"].update({"folder": "0" * 64}),
    "a missing one": lambda form: form["files"].update({"none": "0" * 64}),
    "another digest": lambda form: form["files"].update({WEIGHTS: "0" * 64}),
}
"""Wrong digests: each must be refused."""

BESIDE: Mapping[str, str] = {
    "generation_config.json": '{"max_new_tokens": 1, "eos_token_id": 1}',
    "preprocessor_config.json": '{"feature_size": 7, "feature_extractor_type": "WhisperFeatureExtractor"}',
    "video_preprocessor_config.json": '{"patch_size": 3}',
    "processor_config.json": '{"processor_class": "WhisperProcessor"}',
    "chat_template.jinja": "{{ 'nonsense' }}",
    "chat_template.json": '{"chat_template": "nonsense"}',
    "additional_chat_templates/default.jinja": "{{ 'nonsense' }}",
    "special_tokens_map.json": '{"eos_token": "x", "pad_token": "y"}',
    "added_tokens.json": '{"x": 3}',
    "tokenizer.model": "nonsense",
    "vocab.json": "{}",
    "merges.txt": "a b",
    "tekken.json": "{}",
    "tokenizer_config.json": "{}",
    "tokens.txt": "a\nb\n",
    "tokens.json": '["a"]',
    "seg_dict": "a b\n",
    "bpe.model": "nonsense",
    "jieba_usr_dict": "x",
    "config.yaml": "model: SenseVoiceSmall\n",
    "config.json": '{"architectures": ["Qwen3ASRForTokenClassification"]}',
    "configuration.json": '{"file_path_metas": {"config": "evil.yaml"}}',
    "model.pt": "nonsense",
    "vad": "x",
    "notes.txt": "x",
    "a/b/c.json": "{}",
}
"""Files beside a compressed model that its digests do not list; those that it has itself are left alone."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield what a compressed model's digests and report say instead."""
    if not model.compressed:
        return
    for what, edit in FILES.items():
        made = both(changed(MANIFEST, _quiet(edit)), lambda directory: (directory / "folder").mkdir())
        yield _case(model, f"files/{what}", made, Expect.REFUSED, what in ("empty", "20000 missing", "a directory"))
    for name in model.files:
        if name not in (MANIFEST, "README.md"):
            yield _case(
                model,
                f"entry dropped/{name}",
                changed(MANIFEST, lambda form, name=name: _forget(form, name)),
                Expect.SAME,
            )
            yield _case(model, f"changed/{name}", settings.appended(name, b" "), Expect.REFUSED)
            yield _case(
                model, f"file missing/{name}", lambda directory, name=name: (directory / name).unlink(), Expect.REFUSED
            )
    yield _case(model, "entry dropped and flipped", both(changed(MANIFEST, _dropped), _flip), Expect.REFUSED, True)
    yield _case(
        model,
        "empty and flipped",
        both(changed(MANIFEST, lambda form: form.update(files={})), _flip),
        Expect.REFUSED,
        True,
    )
    yield _case(model, "flipped", _flip, Expect.REFUSED)
    yield _case(model, "missing", lambda directory: (directory / MANIFEST).unlink(), Expect.SAME)
    for what, content in WHOLE.items():
        yield _case(model, f"whole/{what}", replaced(MANIFEST, content), Expect.REFUSED, what in ("a list", "deep"))
    for name, text in BESIDE.items():
        if not (model.directory / name).exists():
            yield _case(model, f"beside/{name}", _added(name, text), Expect.SAME, name == "generation_config.json")
    yield from _report(model)


def _report(model: HonestModel) -> Iterator[Case]:
    """The rest of the file: what was done to the model, which inspection repeats."""
    form = json.loads((model.directory / MANIFEST).read_text(encoding="utf-8"))
    values = {**VALUES, "minus NaN": -math.nan}
    for keys in settings.places({key: value for key, value in form.items() if key != "files"}):
        for what, value in values.items():
            yield _case(
                model,
                f"report/{'.'.join(map(str, keys))}/{what}",
                settings.with_value(MANIFEST, keys, value),
                Expect.UNKNOWABLE,
            )
        gone = changed(MANIFEST, lambda form, keys=keys: settings.drop(form, keys))
        yield _case(model, f"report/{'.'.join(map(str, keys))}/missing", gone, Expect.UNKNOWABLE)


def _case(model: HonestModel, name: str, change: Change, expect: Expect, reported: bool = False) -> Case:
    return Case(kind=KIND, name=name, model=model.name, change=change, expect=expect, signed=False, reported=reported)


def _forget(form: dict[str, Any], name: str) -> None:
    form["files"].pop(name)


def _quiet(edit: Edit) -> Edit:
    """An edit that changes and gives nothing."""

    def apply(form: dict[str, Any]) -> None:
        edit(form)

    return apply


def _added(name: str, text: str) -> Change:
    def apply(directory: Path) -> None:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, encoding="utf-8")

    return apply

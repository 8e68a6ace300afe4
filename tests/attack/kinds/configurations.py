"""Every setting of every file, with values that it cannot have, cannot bear or did not expect."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from attack import settings
from attack.case import Case, Expect
from attack.model import HonestModel
from attack.settings import Keys, both, replaced

KIND = "configuration"

_DEEP: Any = []
for _ in range(100):
    _DEEP = [_DEEP]

VALUES: Mapping[str, Any] = {
    "text": "nonsense",
    "negative": -3,
    "zero": 0,
    "seven": 7,
    "billion": 10**9,
    "beyond 64 bits": 10**30,
    "1e30": 1e30,
    "tiny": 1e-30,
    "NaN": math.nan,
    "infinity": -math.inf,
    "null": None,
    "true": True,
    "list": [1, 2],
    "empty list": [],
    "mapping": {"a": 1},
    "deep": _DEEP,
    "long text": "x" * 100_000,
    "empty text": "",
    "escapes": "\x1b[31mred\x07 \u202eback\nline\r\u2028end",
    "surrogate": "\udc80",
    "absolute path": "/etc/passwd",
    "path outside": "../../x/secret.txt",
    "repository": "evil-owner/evil-model",
    "reference": "${oc.env:HOME}",
    "address": "https://example.invalid/evil.bin",
}
"""By name, a value; no setting is made for all of them."""

WHOLE: Mapping[str, str | bytes] = {
    "empty": "",
    "a list": "[1, 2]",
    "a text": '"nonsense"',
    "a number": "3",
    "null": "null",
    "no JSON": "{'a': 1,}",
    "cut": '{"a": {"b": ',
    "deep": "[" * 100_000,
    "deep mapping": '{"a":' * 50_000,
    "NUL": b'{"a": "\0"}',
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "UTF-16": '{"model_type": "x"}'.encode("utf-16"),
    "a mark first": b"\xef\xbb\xbf{}",
    "large number": '{"a": ' + "9" * 5000 + "}",
    "empty mapping": "{}",
    "escapes": '{"\\u001b[31m": "\\u202e", "\x1b[31mraw',
    "many keys": "{" + ",".join(f'"k{number}": {number}' for number in range(200_000)) + "}",
}
"""By name, all that a file of settings holds."""

_REPORTED = {
    ("aligner", "dtype", "text"),
    ("aligner", "text_config.num_attention_heads", "zero"),
    ("omni", "model_type", "text"),
    ("paraformer", "encoder_conf.attention_heads", "zero"),
    ("paraformer", "model_conf.predictor_bias", "billion"),
    ("aligner", "tokenizer_class", "seven"),
}


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield a case for every place and value, and for whole files."""
    for name in model.configurations:
        form = settings.read(model.directory / name)
        for keys in settings.places(form):
            yield from _values(model, name, keys, settings.get(form, keys))
        for what, content in WHOLE.items():
            # An empty mapping is what the files of settings that may be left out are without.
            expect = Expect.UNKNOWABLE if what == "empty mapping" else Expect.SAME
            yield Case(
                kind=KIND,
                name=f"{name}/whole/{what}",
                model=model.name,
                change=replaced(name, content),
                expect=expect,
                reported=(name, what) == ("generation_config.json", "a list"),
            )
        yield Case(
            kind=KIND,
            name=f"{name}/missing",
            model=model.name,
            expect=Expect.UNKNOWABLE,
            change=lambda directory, name=name: (directory / name).unlink(),
        )
        yield from _keys(model, name)


def _values(model: HonestModel, name: str, keys: Keys, honest: Any) -> Iterator[Case]:
    place = ".".join(map(str, keys))
    for what, value in VALUES.items():
        if value == honest and type(value) is type(honest):
            continue
        yield Case(
            kind=KIND,
            name=f"{name}/{place}/{what}",
            model=model.name,
            expect=_expected(honest, value),
            change=settings.with_value(name, keys, value),
            reported=(model.name, place, what) in _REPORTED,
        )
    yield Case(
        kind=KIND,
        name=f"{name}/{place}/missing",
        model=model.name,
        expect=Expect.UNKNOWABLE,
        change=settings.changed(name, lambda form: settings.drop(form, keys)),
    )


def _expected(honest: Any, value: Any) -> Expect:
    """A number for a number, or nothing, describes another model as well."""
    numbers = isinstance(honest, int | float) and isinstance(value, int | float) and not isinstance(value, bool)
    if value is None or (numbers and math.isfinite(value)) or (honest is None and not isinstance(value, list | dict)):
        return Expect.UNKNOWABLE
    if isinstance(honest, bool) and isinstance(value, bool):
        return Expect.UNKNOWABLE
    return Expect.SAME


def _keys(model: HonestModel, name: str) -> Iterator[Case]:
    """Keys that nobody knows."""
    for what, key in {
        "a key with escapes": "\x1b[31mred\u202e\nkey",
        "a long key": "k" * 100_000,
        "an empty key": "",
        "a magic key": "__class__",
        "a dotted key": "self.__init__",
        "a key of the constructor": "self",
        "a key of paths": "/etc/passwd",
    }.items():
        for value in ("x", 7, {"a": "\x1b[31m"}):
            yield Case(
                kind=KIND,
                name=f"{name}/{what}/{type(value).__name__}",
                model=model.name,
                change=both(settings.with_value(name, (key,), value)),
            )

"""The card, the licence and the notices of a model, which are read and copied when it is written again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attack.case import Case, Expect
from attack.model import HonestModel
from attack.settings import replaced

KIND = "notices"

CARDS: Mapping[str, str | bytes] = {
    "empty": "",
    "no head": "# x",
    "not closed": "---\nlicense: mit\n",
    "a list": "---\n- a\n---\n",
    "a text": "---\nnonsense\n---\n",
    "licence a number": "---\nlicense: 7\n---\n",
    "licence a mapping": "---\nlicense: {a: 1}\n---\n",
    "licence with escapes": '---\nlicense: "\\e[31m\\u202e\\n"\n---\n',
    "licence long": f"---\nlicense: {'x' * 100_000}\n---\n",
    "licence at a path": "---\nlicense: other\nlicense_link: /home/user/secret\nlicense_name: /home/ann/x\n---\n",
    "licence as code": "---\nlicense: other\nlicense_link: javascript:alert(1)\n---\n",
    "many languages": "---\nlanguage: [" + ", ".join(["zh"] * 100_000) + "]\n---\n",
    "languages that are none": "---\nlanguage: [1, {a: 2}, null, '\\e']\n---\n",
    "no UTF-8": b"---\nlicense: \xff\xfe\n---\n",
    "NUL": b"---\nlicense: a\0b\n---\n",
    "a mark first": b"\xef\xbb\xbf---\nlicense: mit\n---\n",
    "spaces without end": "---\n" + " " * 900_000 + "\n",
    "lines without end": "---\n" + "\n" * 900_000,
    "dashes without end": "---\n" + "---x\n" * 180_000,
    "10 MB": "x" * 10_000_000,
    "deep": "---\nx: " + "[" * 100_000 + "\n---\n",
}

NOTICES: Mapping[str, str | bytes] = {
    "empty": b"",
    "escapes": "\x1b[31m\u202e",
    "binary": bytes(range(256)) * 100,
    "2 MB": b"x" * 2_000_000,
    "a path of a machine": "see /home/somebody/secret/notes.txt",
    "a key": "AKIAIOSFODNN7EXAMPLE",
}

NAMES = (
    "LICENSE",
    "license.md",
    "NOTICE",
    "NOTICE.py",
    "COPYING.sh",
    "copyright-\x1b[31m",
    "License.\u202e",
    "LICENSE.pkl",
)


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield cards, and notices of every name."""
    only = ("save",) if model.compressed else ("compress",)
    for what, content in CARDS.items():
        yield Case(
            kind=KIND, name=f"card/{what}", model=model.name, change=replaced("README.md", content), operations=only
        )
    for name in NAMES:
        for what, content in NOTICES.items():
            yield Case(
                kind=KIND,
                name=f"{name!a}/{what}",
                model=model.name,
                change=replaced(name, content),
                operations=only,
                expect=Expect.SAME,
            )

"""YAML that runs, multiplies, never ends or is none: the configuration of FunASR and the heads of cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from attack.case import Case, Change, Expect
from attack.kinds.pickles import COMMAND
from attack.model import HonestModel
from attack.settings import appended, replaced

KIND = "yaml"


def merges(levels: int) -> str:
    """Return mappings that each merge the one before ten times."""
    lines = ["m0: &m0 {" + ", ".join(f"k{number}: 1" for number in range(10)) + "}"]
    lines += [f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def aliases(levels: int) -> str:
    """Return lists that each hold the one before ten times."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


TEXTS: Mapping[str, str | bytes] = {
    "os.system": f"x: !!python/object/apply:os.system ['{COMMAND}']\n",
    "a new object": f"x: !!python/object/new:os.system ['{COMMAND}']\n",
    "a name": "x: !!python/name:os.system\n",
    "a module": "x: !!python/module:os\n",
    "a tuple": "x: !!python/tuple [1]\n",
    "5 levels of merges": merges(5),
    "6 levels of merges": merges(6),
    "8 levels of merges": merges(8),
    "9 levels of aliases": aliases(9),
    "30 levels of aliases": aliases(30),
    "deep lists": "x: " + "[" * 20_000 + "]" * 20_000 + "\n",
    "deep mappings": "x: " + "{a: " * 5_000 + "1" + "}" * 5_000 + "\n",
    "deep lines": "".join(f"{' ' * number}k:\n" for number in range(1_500)),
    "deep dashes": "x:\n " + "- " * 3_000 + "1\n",
    "itself": "x: &x [*x]\n",
    "itself as a mapping": "x: &x {a: *x}\n",
    "itself as a key": "x: &x {? *x : 1}\n",
    "merges itself": "x: &x {<<: *x}\n",
    "a sexagesimal": "x: " + "59:" * 500 + "59.5\n",
    "a long number": "x: " + "9" * 10_000 + "\n",
    "a hexadecimal": "x: 0x" + "f" * 1_000_000 + "\n",
    "a date that is none": "x: 2023-99-99\n",
    "a time that is none": "x: 2001-12-14t99:99:99.10-99:99\n",
    "binary": "x: !!binary '\x3f\x3f'\n",
    "pairs": "x: !!pairs [trust_remote_code: true]\n",
    "an ordered mapping": "x: !!omap [trust_remote_code: true, y: '${oc.env:HOME}']\n",
    "a set": "x: !!set {trust_remote_code, '${x}'}\n",
    "a list as a key": "? [1, 2]\n: 3\n",
    "a mapping as a key": "? {a: 1}\n: 3\n",
    "numbers as keys": "1: 2\n1.5: 3\ntrue: 4\nnull: 5\n",
    "keys twice": "model: Paraformer\nmodel: nonsense\n",
    "merging a number": "<<: 5\n",
    "merging a list of numbers": "<<: [1, 2]\n",
    "tabs": "\tx: 1\n",
    "escapes": b'x: "\\e[31m\\u202e\\n"\n',
    "raw escapes": b"x: \x1b[31m\n",
    "NUL": b"x: \0\n",
    "no UTF-8": b"x: \xff\xfe\n",
    "two documents": "---\nx: 1\n---\ny: 2\n",
    "a directive": "%YAML 9.9\n---\nx: 1\n",
    "a tag unknown": "x: !\x41vil {a: 1}\n",
    "a tag with escapes": b"x: !<\\x1b%1b[31m> 1\n",
    "an anchor unknown": "x: *nothing\n",
    "an anchor twice": "x: &a 1\ny: &a 2\nz: *a\n",
    "a long key": "k" * 100_000 + ": 1\n",
    "many keys": "".join(f"k{number}: {number}\n" for number in range(30_000)),
    "a megabyte": "x: |\n" + "  text text text\n" * 100_000,
    "code": "trust_remote_code: true\n",
    "deep code": "x: {y: [{trust_remote_code: true}]}\n",
    "a reference": "x: ${oc.env:HOME}\n",
    "a reference as a key": "${x}: 1\n",
    "a reference of references": "x: ${${y}}\n",
}
"""By name, what is put into a file of YAML."""

_REPORTED = (
    "6 levels of merges",
    "8 levels of merges",
    "a sexagesimal",
    "an ordered mapping",
    "9 levels of aliases",
    "os.system",
    "deep lists",
)


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield each text in the configuration, added and alone, and at the head of the card."""
    only = ("save",) if model.compressed else ("compress",)
    for what, text in TEXTS.items():
        if model.family == "paraformer":
            yield _case(model, f"added/{what}", _added(text), (), what in _REPORTED)
            yield _case(model, f"alone/{what}", replaced("config.yaml", text), ())
            yield _case(model, f"section/{what}", _section(text), ())
        yield _case(model, f"card/{what}", _card(text), only, what == "6 levels of merges")


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _added(text: str | bytes) -> Change:
    return lambda directory: appended("config.yaml", b"\n" + _raw(text))(directory)


def _card(text: str | bytes) -> Change:
    head, tail = b"---\nlicense: apache-2.0\n", b"---\n\n# x\n"
    return lambda directory: replaced("README.md", head + _raw(text) + tail)(directory)


def _section(text: str | bytes) -> Change:
    def apply(directory: Path) -> None:
        lines = b"".join(b"  " + line + b"\n" for line in _raw(text).splitlines())
        appended("config.yaml", b"\ntrain_conf:\n" + lines)(directory)

    return apply


def _case(model: HonestModel, name: str, change: Change, operations: tuple[str, ...], reported: bool = False) -> Case:
    expect = Expect.UNKNOWABLE if name.endswith("keys twice") else Expect.SAME
    return Case(
        kind=KIND, name=name, model=model.name, change=change, operations=operations, reported=reported, expect=expect
    )

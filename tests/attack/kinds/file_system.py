"""Links, pipes, directories and names: what a file system allows and a model does not need."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.settings import with_value

KIND = "file system"

NOTICES = ("LICENSE", "NOTICE.txt", "COPYING", "Copyright.md")
"""Files that go with a copy of a model."""


def _outside(directory: Path, name: str) -> None:
    """Make the file a link to a copy of itself that lies outside."""
    path, target = directory / name, directory.parents[1] / "x" / Path(name).name
    if path.exists():
        shutil.copyfile(path, target)
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = directory.parents[1] / "x" / "secret.txt"
    path.symlink_to(target)


def _inside(directory: Path, name: str) -> None:
    (directory / name).rename(directory / f"real-{name}")
    (directory / name).symlink_to(f"real-{name}")


def _without(directory: Path, name: str) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def _pipe(directory: Path, name: str) -> None:
    os.mkfifo(_without(directory, name))


def _folder(directory: Path, name: str) -> None:
    _without(directory, name).mkdir()


def _socket(directory: Path, name: str) -> None:
    path = _without(directory, name)
    before = Path.cwd()
    os.chdir(path.parent)
    socket.socket(socket.AF_UNIX).bind(path.name)
    os.chdir(before)


def _dangling(directory: Path, name: str) -> None:
    _without(directory, name).symlink_to("nothing-here")


def _loop(directory: Path, name: str) -> None:
    path = _without(directory, name)
    path.symlink_to(path.name)


def _device(directory: Path, name: str) -> None:
    _without(directory, name).symlink_to("/dev/zero")


def _sparse(directory: Path, name: str) -> None:
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    with (directory / name).open("ab") as file:
        file.truncate(20_000_000_000)


def _unreadable(directory: Path, name: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text("x", encoding="utf-8")
    path.chmod(0)


THINGS: Mapping[str, tuple[object, Expect]] = {
    "a link outside": (_outside, Expect.REFUSED),
    "a link inside": (_inside, Expect.SAME),
    "a pipe": (_pipe, Expect.REFUSED),
    "a directory": (_folder, Expect.SAME),
    "a socket": (_socket, Expect.REFUSED),
    "a dangling link": (_dangling, Expect.SAME),
    "a loop": (_loop, Expect.REFUSED),
    "a device": (_device, Expect.REFUSED),
    "20 GB of nothing": (_sparse, Expect.SAME),
    "unreadable": (_unreadable, Expect.SAME),
}
"""What stands in the place of a file."""

_NAMED = ("a pipe", "a device", "a directory", "a link outside")

ADDED = (
    *NOTICES,
    "README.md",
    "additional_chat_templates/x.jinja",
    "chat_template.jinja",
    "seg_dict",
    "preprocessor_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "bpe.model",
    "tokens.txt",
    ".git/HEAD",
    ".hidden",
    "notes/x.txt",
)
"""Files that a model may have too."""

_HIDDEN = (".git/HEAD", ".hidden")

_CONTROLS = ("escapes", "a line end", "turned writing", "no UTF-8")
"""Names that may be refused."""

FOLDERS: Mapping[str, str] = {
    "escapes": "\x1b[31mred\x07",
    "a line end": "a\nb",
    "turned writing": "a\u202eb\u200f",
    "no UTF-8": "a\udcff",
    "spaces": " a  b ",
    "an option": "-rf",
    "a repository": "owner--name",
    "a pattern": "re:.*[a",
    "braces": "{x} %s ${y}",
    "long": "n" * 200,
    "a colon": "a:b;c&d|e",
    "quotes": "a'b\"c`d`",
    "Chinese": "模型",
}
"""What the directory is called."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield each thing in the place of each file, files that are added, and names of directories."""
    for name in model.files:
        for what, (make, expect) in THINGS.items():
            yield _case(model, f"{name}/{what}", _at(make, name), expect, _reported(model, name, what))
    for name in ADDED:
        if (model.directory / name).exists():
            continue
        for what, (make, expect) in THINGS.items():
            if what == "a link inside":
                continue
            expected = Expect.SAME if name in _HIDDEN else expect
            yield _case(
                model,
                f"added/{name}/{what}",
                _at(make, name),
                expected,
                what == "a link outside" and name in ("NOTICE.txt", ADDED[5]),
            )
    yield from _names(model)
    for what, folder in FOLDERS.items():
        for change, how in ((lambda directory: None, "honest"), (_spoil(model), "spoilt")):
            harmless = Expect.SAME if what in _CONTROLS else Expect.HARMLESS
            yield Case(
                kind=KIND,
                name=f"folder/{what}/{how}",
                model=model.name,
                change=change,
                folder=folder,
                expect=harmless if how == "honest" else Expect.REFUSED,
            )


def _reported(model: HonestModel, name: str, what: str) -> bool:
    told = {
        ("README.md", "a pipe"),
        ("tokenizer.json", "a pipe"),
        ("tokenizer.json", "a directory"),
        ("model.safetensors", "a link outside"),
        ("tokens.json", "a pipe"),
    }
    return not model.compressed and (name, what) in told


def _many(directory: Path) -> None:
    for number in range(3_000):
        (directory / f"f{number}.json").write_bytes(b"{}")


def _deep(directory: Path) -> None:
    path = directory
    for _ in range(200):
        path = path / "d"
        path.mkdir()


def _looped(directory: Path) -> None:
    (directory / "d").mkdir()
    (directory / "d" / "up").symlink_to("..")


def _names(model: HonestModel) -> Iterator[Case]:
    """Files that nobody knows, under odd names and in odd numbers."""
    for what, name in {**FOLDERS, "a wildcard": "*", "two dots": "..x", "capitals": "CONFIG.JSON"}.items():
        yield _case(
            model, f"beside/{what}", lambda directory, name=name: (directory / name).write_bytes(b"x"), Expect.SAME
        )

    for what, change in (("3000 files", _many), ("200 deep", _deep), ("a loop of folders", _looped)):
        yield _case(model, f"beside/{what}", change, Expect.SAME)
    if model.family == "paraformer":
        for key, kind in itertools.product(("seg_dict", "jieba_usr_dict", "bpemodel", "x"), _NAMED):
            change = _both(THINGS[kind][0], key)
            yield _case(model, f"named/{key}/{kind}", change, Expect.SAME, kind == "a pipe")


def _both(make: object, key: str) -> Change:
    def apply(directory: Path) -> None:
        with_value("configuration.json", ("file_path_metas", "tokenizer_conf", key), "evil")(directory)
        _at(make, "evil")(directory)

    return apply


def _at(make: object, name: str) -> Change:
    assert callable(make)
    return lambda directory: make(directory, name)


def _spoil(model: HonestModel) -> Change:
    def apply(directory: Path) -> None:
        (directory / model.weights).write_bytes(b"nonsense")

    return apply


def _case(model: HonestModel, name: str, change: Change, expect: Expect, reported: bool = False) -> Case:
    # What is copied beside the weights counts when a model is written.
    copied = any(notice in name for notice in (*NOTICES, "README.md", "additional_chat_templates"))
    operations = ("save", "compress") if copied else ()
    if copied:
        operations = ("save",) if model.compressed else ("compress",)
    return Case(
        kind=KIND, name=name, model=model.name, change=change, expect=expect, operations=operations, reported=reported
    )

"""Templates and tokenizers that a repository brings, tried in a process of their own before they are used here.

A line of a template can ask for gigabytes of text, and a pattern in a tokenizer for years of matching. Neither runs
code, so a process that may take little memory and little time is all that it needs.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sottovoce.checkpoint.safe_config import read_config
from sottovoce.errors import SourceError
from sottovoce.system.interpreter import python_command, python_environment

SECONDS, MEMORY = 10, 400_000_000
"""Limits of the trial: seconds of a processor, and bytes of memory. A tokenizer of 150,000 words takes a second and
80 MB."""
_PATIENCE = 120
"""Seconds until the trial is given up on a machine that is busy."""
_LARGEST_TEMPLATE = 1_000_000
_TOO_MUCH = 70
"""Exit code of the process when memory was not enough."""

_verdicts: dict[tuple[tuple[str, ...], str | None], str] = {}
"""Problems by templates and tokenizer, empty for none: the same ones are tried once in a process."""


def try_text_files(directory: Path) -> None:
    """Render a model's chat templates and encode a few words with its tokenizer, elsewhere.

    Raises:
        SourceError: That takes too much time or memory, or the tokenizer cannot be read.
    """
    templates = tuple(_templates(directory))
    tokenizer = directory / "tokenizer.json"
    if sum(map(len, templates)) > _LARGEST_TEMPLATE:
        raise SourceError(f"{directory}: its chat template is longer than {_LARGEST_TEMPLATE} characters")
    digest = None
    if tokenizer.is_file():
        with tokenizer.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    if (templates, digest) not in _verdicts:
        _verdicts[templates, digest] = _problem(templates, str(tokenizer.resolve()) if digest else None)
    if problem := _verdicts[templates, digest]:
        raise SourceError(f"{directory}: {problem}")


def _templates(directory: Path) -> list[str]:
    """Return every template that transformers would read."""
    entries: list[Any] = []
    for path in (directory / "chat_template.jinja", *sorted((directory / "additional_chat_templates").glob("*.jinja"))):
        if path.is_file():
            if path.stat().st_size > 4 * _LARGEST_TEMPLATE:
                raise SourceError(f"{path}: is longer than {_LARGEST_TEMPLATE} characters")
            entries.append(path.read_text(encoding="utf-8", errors="replace"))
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        if (directory / name).is_file():
            entries.append(read_config(directory / name).get("chat_template"))
    flat = [template for entry in entries for template in (entry if isinstance(entry, list) else [entry])]
    texts = [template.get("template") if isinstance(template, dict) else template for template in flat]
    return [text for text in texts if isinstance(text, str)]


def _problem(templates: tuple[str, ...], tokenizer: str | None) -> str:
    """Return what is wrong with them; empty for nothing."""
    if not templates and tokenizer is None:
        return ""
    process = subprocess.Popen(
        python_command("-m", __name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=python_environment(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1"),
    )
    try:
        request = {"templates": templates, "tokenizer": tokenizer, "seconds": SECONDS}
        answer, _ = process.communicate(json.dumps(request).encode(), _PATIENCE)
    except subprocess.TimeoutExpired:
        answer = b""
    finally:
        process.kill()
        process.wait()
    if answer:
        return str(json.loads(answer))
    return (
        f"its chat template or tokenizer takes more than {SECONDS} seconds or {MEMORY // 1_000_000} MB for a few "
        "words; fetch the model again"
    )


def _limit(seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; there the parent's patience is the only one.
        return
    for kind, amount in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, MEMORY)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))


def _conversations() -> list[list[dict[str, Any]]]:
    audio, words = {"type": "audio", "audio": "a.wav"}, {"type": "text", "text": "what is said"}
    question: dict[str, Any] = {"role": "user", "content": [audio, *[words] * 8]}
    answer: dict[str, Any] = {"role": "assistant", "content": "some words"}
    return [[question], [{"role": "system", "content": "be brief"}, *[question, answer] * 16, question]]


def _render(template: str) -> None:
    """Render a template as transformers does; an error of the template's own is its author's business."""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import Node, Scope
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}

        def parse(self, parser: Parser) -> Node:
            line = next(parser.stream).lineno
            return Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **given: json.dumps(value, ensure_ascii=False)
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: "2001-01-01"}
    for messages in _conversations():
        try:
            environment.from_string(template).render(
                messages=messages, add_generation_prompt=True, tools=None, documents=None
            )
        except MemoryError:
            raise
        except Exception:
            return


def _main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    _limit(request["seconds"])
    problem = ""
    try:
        for template in request["templates"]:
            _render(template)
        if request["tokenizer"]:
            problem = _encode(request["tokenizer"])
    except MemoryError:
        sys.exit(_TOO_MUCH)
    sys.stdout.write(json.dumps(problem))


def _encode(path: str) -> str:
    """Encode words of several kinds; says what is wrong with the tokenizer."""
    from tokenizers import Tokenizer

    from sottovoce.errors import reason

    try:
        tokenizer = Tokenizer.from_file(path)
        for text in ("what is said", "a" * 400 + "!", "1" * 400 + "x", " " * 400 + ".", "说了什么" * 50, "\n \t" * 80):
            tokenizer.encode(text)
    except MemoryError:
        raise
    except BaseException as error:
        # A panic of the library is not an Exception.
        return f"the tokenizer cannot be read ({reason(error)})"
    return ""


if __name__ == "__main__":
    _main()

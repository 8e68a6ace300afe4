"""Messages count in the singular too: ``1 sample``, not ``1 samples``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in ("core", "hub", "plugins") for path in (ROOT / folder).rglob("*.py") if "build" not in path.parts
)
TEMPLATES = sorted(
    path for folder in ("core", "hub") for path in (ROOT / folder).rglob("*.j*") if path.suffix in (".j2", ".jinja")
)
NOUNS = (
    "answers|bits|blocks|bytes|channels|characters|clips|columns|cores|devices|directories|engines|entries|"
    "evaluations|experts|files|frames|groups|heads|hotwords|hours|images|inputs|items|keys|languages|layers|"
    "lines|messages|metrics|minutes|modalities|models|modules|numbers|outputs|pages|parameters|parts|pieces|"
    "places|processes|recipes|recordings|references|repositories|requests|results|rounds|rows|samples|seconds|"
    "segments|shards|speakers|steps|tensors|texts|threads|times|tokens|tools|units|updates|utterances|variants|"
    "weights|windows|words"
)
"""What is counted. A noun behind one adjective counts too."""
_NO_ADJECTIVES = (
    "a|among|and|at|by|each|for|from|has|have|holds|in|is|it|more|names|needs|no|not|of|on|or|states|such|takes|"
    "the|trains|with"
)
PLURAL = re.compile(rf" (?:(?!(?:{_NO_ADJECTIVES}) )[A-Za-z-]+ )?(?:{NOUNS})\b")

EXCEPTIONS = {
    "core/sottovoce/calibration/runner.py": {"names": "is names of steps"},
    "core/sottovoce/cli/transcription_files.py": {"len(files)": "is above 1 where it is said"},
    "core/sottovoce/engines/diagnosis.py": {"run.threads": "is above the number of cores where it is said"},
    "core/sottovoce/entrypoints/measurement.py": {"count": "is above 1 where it is said"},
    "core/sottovoce/formats/gguf.py": {"weight.scheme.bits": "is never 1"},
    "core/sottovoce/experts/plots.py": {"kind": "is a kind of tokens"},
    "core/sottovoce/pruning/compensation.py": {
        "'keeps its' if len(unfitted) == 1 else 'keep their'": "is a verb that agrees with its number"
    },
    "core/sottovoce/pruning/heads_layer.py": {
        "sorted(counts)": "is a list of several numbers",
        "groups": "is above 1 where it is said, since 1 divides all",
    },
    "core/sottovoce/pruning/width_layer.py": {"sorted(units)": "is a list of several numbers"},
    "core/sottovoce/quantization/cast_step.py": {"count": "is a number with its unit, such as 1.5 M"},
    "core/sottovoce/quantization/description.py": {"recipe_bits": "is never 1"},
    "core/sottovoce/quantization/plan.py": {
        "len(names)": "is above 1 where it is said",
        "_listed(widths)": "is never 1",
    },
    "core/sottovoce/recipe/recipe.py": {"x.bit_length()": "is 64 and more"},
    "core/sottovoce/recipe_search/bounds.py": {"count": "is far above 1"},
    "core/sottovoce/reports/tables.py": {"unit.layers": "is above 1 where it is said"},
    "core/sottovoce/runtime/kernels/weights.py": {"columns": "is an error of the program, not of a person"},
    "core/sottovoce/serving/chat_messages.py": {"len(messages)": "is above 200 where it is said"},
    "core/sottovoce/serving/transcription_form.py": {"len(words)": "is far above 1 where it is said"},
    "core/sottovoce/serving/uploads.py": {"most": "is the limit of uploads, in bytes"},
    "core/sottovoce/system/audio.py": {"samples.shape[1]": "is above 64 where it is said"},
    "core/sottovoce/training/loop.py": {"self._step.name": "is the name of a step"},
    "core/sottovoce/training/losses.py": {"sizes": "is two numbers"},
    "plugins/forced-aligner/sottovoce_forced_aligner/aligner.py": {"most": "is above 2"},
    "plugins/forced-aligner/sottovoce_forced_aligner/onnx_client.py": {"8 * file.getsampwidth()": "is a multiple of 8"},
    "plugins/paraformer/sottovoce_paraformer/limits.py": {"width": "is hundreds: features are stacked filter banks"},
}
"""By file, placeholders that never are 1, with the reason."""


def placeholders(path: Path) -> Iterator[tuple[int, str]]:
    """Line and expression of every placeholder with a plural noun behind it that is not by ``counted``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        for part, following in zip(node.values, node.values[1:], strict=False):
            if isinstance(part, ast.FormattedValue) and isinstance(following, ast.Constant):
                expression = ast.unparse(part.value)
                if PLURAL.match(str(following.value)) and not _never_one(part, expression):
                    yield part.lineno, expression


def _never_one(part: ast.FormattedValue, expression: str) -> bool:
    """Whether it counts with its noun already, is a constant, or has decimals, which are plural."""
    digits = ast.unparse(part.format_spec) if part.format_spec else ""
    is_constant = expression.rpartition(".")[2].isupper()
    return "counted(" in expression or is_constant or bool(re.search(r"\.[1-9]", digits))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_numbers_before_plural_nouns_are_counted(path: Path) -> None:
    allowed = EXCEPTIONS.get(path.relative_to(ROOT).as_posix(), {})
    wrong = [f"{path}:{line}: {{{text}}}" for line, text in placeholders(path) if text not in allowed]
    assert not wrong, "write them by number_format.counted:\n" + "\n".join(wrong)


def test_exceptions_are_placeholders_that_there_are() -> None:
    for name, expressions in EXCEPTIONS.items():
        assert set(expressions) <= {text for _, text in placeholders(ROOT / name)}, name


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_numbers_of_templates_are_counted(path: Path) -> None:
    behind = re.findall(r"\{\{ ([^{}]*) \}\}( [A-Za-z- ]+)", path.read_text(encoding="utf-8"))
    # Of the page: the samples that are timed at most, and the machine's threads.
    wrong = [text for text, words in behind if PLURAL.match(words) and text not in ("timed", "c.machine.cores")]
    assert not [text for text in wrong if "counted" not in text]


@pytest.mark.parametrize(
    ("source", "is_wrong"),
    [
        ('f"{len(names)} samples"', True),
        ('f"{count} calibration samples are"', True),
        ('f"{seconds:.0f} seconds"', True),
        ('f"{seconds:.1f} seconds"', False),
        ("f\"{counted(count, 'sample')} of files\"", False),
        ('f"{_MOST} files"', False),
        ('f"{name} has experts"', False),
    ],
)
def test_the_check_tells_numbers_from_names(tmp_path: Path, source: str, is_wrong: bool) -> None:
    path = tmp_path / "a.py"
    path.write_text(source, encoding="utf-8")
    assert bool(list(placeholders(path))) == is_wrong

"""A saved int8 model in FunASR's own ``AutoModel``, in a new process that never imports Sottovoce's API."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import sottovoce
from forked import run_code
from plugins.paraformer.tiny import make_model
from plugins.paraformer.tiny_companions import make_punctuation, make_voice_activity

KINDS = ("Paraformer", "BiCifParaformer", "SeacoParaformer", "ContextualParaformer")

SCRIPT = """
import json, sys
import sottovoce_paraformer.register
from funasr import AutoModel
import soundfile

root, first, second = sys.argv[1:]
found = {}
for kind in %r:
    asr = AutoModel(model=f"{root}/{kind}-int8", disable_update=True, disable_pbar=True, log_level="ERROR")
    found[kind] = {
        "class": f"{type(asr.model).__module__}.{type(asr.model).__name__}",
        "path": asr.generate(input=first),
        "array": asr.generate(input=soundfile.read(first, dtype="float32")[0]),
        "bytes": asr.generate(input=open(first, "rb").read()),
        "list": asr.generate(input=[first, second]),
        "batch": asr.generate(input=[first, second], batch_size_s=60),
    }
asr = AutoModel(model=f"{root}/BiCifParaformer-int8", vad_model=f"{root}/vad", punc_model=f"{root}/punc-int8",
                disable_update=True, disable_pbar=True, log_level="ERROR")
found["pipeline"] = asr.generate(input=[first, second], batch_size_s=60)
print("RESULT" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        _compress(make_model(root / kind, kind))
    make_voice_activity(root / "vad")
    _compress(make_punctuation(root / "punc"))
    for name, seconds in (("first", 3), ("second", 2)):
        noise = 0.1 * np.random.default_rng(seconds).standard_normal(16000 * seconds)
        soundfile.write(root / f"{name}.wav", noise.astype(np.float32), 16000)
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> dict[str, Any]:
    script, audio = SCRIPT % (KINDS,), (root / "first.wav", root / "second.wav")
    done = run_code(script, dict(os.environ), root, *audio, imports=("torch", "funasr"))
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.partition("RESULT")[2])
    return result


def _compress(source: Path) -> None:
    model = sottovoce.load(source)
    sottovoce.compress(model, "int8")
    sottovoce.save(model, source.with_name(f"{source.name}-int8"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_input_gives_the_same_text(kind: str, root: Path, found: dict[str, Any]) -> None:
    expected = sottovoce.from_pretrained(root / f"{kind}-int8").generate(input=str(root / "first.wav"))[0]["text"]
    results = found[kind]
    assert results["class"] == f"sottovoce_paraformer.register.{kind}"
    assert expected
    assert {results[name][0]["text"] for name in ("path", "array", "bytes", "list", "batch")} == {expected}
    assert [len(results[name]) for name in ("list", "batch")] == [2, 2]


@pytest.mark.parametrize("kind", ["BiCifParaformer", "SeacoParaformer"])
def test_timestamps_are_there_where_the_base_gives_them(kind: str, root: Path, found: dict[str, Any]) -> None:
    result = found[kind]["path"][0]
    assert len(result["timestamp"]) == len(result["text"].replace(" ", ""))
    base = sottovoce.from_pretrained(root / kind).generate(input=str(root / "first.wav"))[0]
    assert "timestamp" in base


def test_it_works_with_voice_activity_and_punctuation(found: dict[str, Any]) -> None:
    assert [bool(result["text"]) for result in found["pipeline"]] == [True, True]
    assert all(result["timestamp"] for result in found["pipeline"])


def test_without_the_import_the_error_says_what_to_import(root: Path) -> None:
    model = str(root / "Paraformer-int8")
    code = f"from funasr import AutoModel; AutoModel(model={model!r}, disable_update=True)"
    done = run_code(code, dict(os.environ), imports=("torch", "funasr"))
    assert done.returncode != 0
    assert "sottovoce_paraformer.register.Paraformer" in done.stderr


@pytest.mark.parametrize("imports", [("torch",), ("torch", "funasr")], ids=["alone", "after FunASR"])
def test_funasr_imports_its_other_models_when_they_are_asked_for(imports: tuple[str, ...], root: Path) -> None:
    """FunASR that was imported before has them all; otherwise its tables fill themselves."""
    code = (
        "import sys, sottovoce_paraformer.register; from funasr import AutoModel; "
        "from funasr.register import tables; "
        "print('funasr.models.sense_voice.model' in sys.modules); "
        "print(tables.model_classes.get('SenseVoiceSmall').__module__, tables.model_classes.get('None')); "
        f"asr = AutoModel(model={str(root / 'Paraformer-int8')!r}, disable_update=True, disable_pbar=True); "
        "print(type(asr.model).__module__)"
    )
    done = run_code(code, dict(os.environ), imports=imports)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert str("funasr" in imports) in lines
    assert "funasr.models.sense_voice.model None" in lines
    assert lines[-1] == "sottovoce_paraformer.register"

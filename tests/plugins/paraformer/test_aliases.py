"""FunASR's short names mean FunASR's repositories, on either hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.hubs import COMMIT, Hub, python, serve
from plugins.paraformer.tiny import make_model
from plugins.paraformer.tiny_companions import make_punctuation, make_speaker, make_voice_activity
from sottovoce import LoadOptions, Repository
from sottovoce.errors import UnknownModelError
from sottovoce_paraformer.aliases import SUPPORTED, find, resolve

SEACO = "iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch"


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_supported_alias_is_funasrs(name: str) -> None:
    found = resolve(name, LoadOptions(revision="v1"))
    assert found is not None
    assert (found.hub, found.revision) == ("modelscope", "v1")


def test_an_alias_is_of_the_hub_that_was_asked_for() -> None:
    assert resolve("paraformer-zh", LoadOptions()) == Repository(id=SEACO, hub="modelscope")
    assert resolve("paraformer-zh", LoadOptions(hub="modelscope")) == Repository(id=SEACO, hub="modelscope")
    assert resolve("paraformer-zh", LoadOptions(hub="hf")) == Repository(id="funasr/paraformer-zh", hub="hf")


def test_an_id_of_funasrs_is_on_modelscope_unless_said_otherwise() -> None:
    assert resolve(SEACO, LoadOptions()) == Repository(id=SEACO, hub="modelscope")
    assert resolve(SEACO, LoadOptions(hub="hf")) is None
    assert resolve("funasr/paraformer-zh", LoadOptions()) is None


@pytest.mark.parametrize("name", ["paraformer-zh-streaming", "fa-zh", "Whisper-large-v3"])
def test_an_alias_of_another_kind_says_what_is_supported(name: str) -> None:
    with pytest.raises(UnknownModelError, match=r"does not support; it supports paraformer, paraformer-zh"):
        resolve(name, LoadOptions())


@pytest.mark.parametrize("name", ["", "paraformer-xx", "Paraformer-zh", "owner/name"])
def test_any_other_name_is_somebody_elses(name: str) -> None:
    assert resolve(name, LoadOptions()) is None


LOAD = """
import json, sys, sottovoce
from sottovoce.errors import UnknownModelError
for options in ({}, {"hub": "hf"}, {"vad_model": "fsmn-vad"}, {"hub": "hf", "vad_model": "someone/vad"}):
    try:
        model = sottovoce.load("paraformer-zh", **options)
        kind = type(model.module).__name__
        beside = [type(each.module).__name__ for each in model.companions.values()]
        source = model.source
        print(json.dumps([kind, source.name, source.repository.id, source.repository.revision, *beside]))
    except sottovoce.SottovoceError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


BESIDE = """
import json, sottovoce
native = sottovoce.from_pretrained(
    "paraformer-zh", recipe="int8", vad_model="fsmn-vad", punc_model="ct-punc", spk_model="cam++"
)
models = native.model, native.vad_model, native.punc_model, native.spk_model
print(json.dumps([type(model).__name__ for model in models]))
"""


def test_models_beside_it_may_be_of_any_kind_that_funasr_knows(tmp_path: Path) -> None:
    with serve() as hub:
        hub.repositories |= {
            SEACO: make_model(tmp_path / "seaco", "SeacoParaformer"),
            find("fsmn-vad", LoadOptions()).id: make_voice_activity(tmp_path / "vad"),  # type: ignore[union-attr]
            find("ct-punc", LoadOptions()).id: make_punctuation(tmp_path / "punc"),  # type: ignore[union-attr]
            find("cam++", LoadOptions()).id: make_speaker(tmp_path / "speaker"),  # type: ignore[union-attr]
        }
        done = python(BESIDE, hub, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [
        "SeacoParaformer",
        "FsmnVADStreaming",
        "CTTransformer",
        "CAMPPlus",
    ]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Hub, list[list[str]]]:
    """What the loads above gave, all in one process."""
    folder = tmp_path_factory.mktemp("hub")
    with serve() as hub:
        hub.repositories[SEACO] = make_model(folder / "seaco", "SeacoParaformer")
        hub.repositories["funasr/paraformer-zh"] = make_model(folder / "plain")
        hub.repositories["someone/vad"] = make_voice_activity(folder / "vad")
        (folder / "plain" / "model.py").write_text("raise SystemExit('a file of the repository was run')")
        done = python(LOAD, hub, folder / "home")
    assert done.returncode == 0, done.stderr
    return hub, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def test_an_alias_is_fetched_from_its_hub_and_loaded(loaded: tuple[Hub, list[list[str]]]) -> None:
    hub, lines = loaded
    assert lines[0] == ["SeacoParaformer", "paraformer-zh", SEACO, COMMIT]
    assert lines[1] == ["Paraformer", "paraformer-zh", "funasr/paraformer-zh", COMMIT]
    assert not [request for request in hub.requests if "resolve" in request and request.endswith(".py")]


def test_a_model_beside_it_comes_from_the_same_hub(loaded: tuple[Hub, list[list[str]]]) -> None:
    assert loaded[1][3] == ["Paraformer", "paraformer-zh", "funasr/paraformer-zh", COMMIT, "FsmnVADStreaming"]


def test_a_model_beside_it_that_cannot_be_fetched_is_an_error(loaded: tuple[Hub, list[list[str]]]) -> None:
    kind, problem = loaded[1][2]
    assert kind == "SourceError"
    assert problem.startswith("iic/speech_fsmn_vad_zh-cn-16k-common-pytorch: could not be fetched from modelscope: ")
    assert "\n" not in problem

"""The bundled models, compressed by two recipes each: to both hubs and back, in stock libraries, the same figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from environments import ROOT, stock_transformers
from forked import HUB_CLIENTS, run_code
from hub.loopback import client
from hub.loopback.git import Blob, Repository
from hub.loopback.hugging_face import Account, HuggingFace, hugging_face
from hub.loopback.modelscope import ModelScope, modelscope
from hub.loopback.server import Loopback

MODELS = ROOT / "examples" / "models"
SPEECH = ROOT / "examples" / "data" / "mandarin-commands"
QUESTIONS = ROOT / "examples" / "data" / "omni-tasks"
RECIPES = {
    "tiny-paraformer": ("int8", "int8-weight"),
    "tiny-aligner": ("int8", "int4"),
    "tiny-omni": ("int8", "reap50-int4"),
}
PUBLISHED = [f"{model}-{recipe}" for model, recipes in RECIPES.items() for recipe in recipes]
EVERY_DAY = ("tiny-paraformer-int8", "tiny-aligner-int4", "tiny-omni-reap50-int4")
PLACES = [pytest.param(place, marks=() if place in EVERY_DAY else pytest.mark.slow) for place in PUBLISHED]
TRANSFORMERS = [name for name in PUBLISHED if not name.startswith("tiny-paraformer")]
HUBS = ("hf", "modelscope")
TOKEN, SITE_TOKEN = "hf_alice0secret", "ms-11111111-aaaa"
COSTS = {"rtf", "latency_ms", "cpu_ms", "peak_memory_bytes"}

PUBLISH = """
import json, sys
import sottovoce, sottovoce_hub
from sottovoce.entrypoints import evaluate
from sottovoce.plugins.host import default_host
from sottovoce.entrypoints.record import record

evaluate.TIMED = 2  # no test looks at the times
job = json.load(sys.stdin)
reports = {}
for name, recipes in job["recipes"].items():
    for recipe in recipes:
        place = f"{name}-{recipe}"
        directory = f"{job['folder']}/{place}"
        model = sottovoce.load(f"alice/{name}")
        sottovoce.compress(model, recipe, job["calibration"][name] if "int4" in recipe else None)
        sottovoce.save(model, directory)
        record(sottovoce.evaluate(directory, job["test"][name], f"alice/{name}", host=default_host()), directory)
        reports[place] = {
            hub: sottovoce_hub.push(directory, f"alice/{place}", hub=hub, token=token).to_dict()
            for hub, token in job["tokens"].items()
        }
print("REPORTS" + json.dumps(reports))
"""

FETCH = """
import json, sys
import sottovoce, sottovoce_hub
from safetensors.torch import save_file
from sottovoce.plugins.host import default_host

job = json.load(sys.stdin)
found = {}
for place, manifest in job["places"].items():
    samples = sottovoce.read_samples(manifest)
    for hub in ("hf", "modelscope"):
        model = sottovoce.load(f"alice/{place}", hub=hub)
        metrics = sottovoce.evaluate(model, samples, host=default_host()).to_dict()["metrics"]
        pulled = sottovoce_hub.pull(f"alice/{place}", f"{job['folder']}/{hub}/{place}", hub=hub)
        found[f"{hub} {place}"] = {"metrics": metrics, "pulled": pulled.to_dict(), "source": model.source.repository.id}
    if "paraformer" not in place:
        asked = [samples[number] for number in (0, len(samples) // 2, len(samples) - 1)]
        if "aligner" in place:
            from sottovoce_forced_aligner.inference import inputs
            from sottovoce_forced_aligner.reading import prepare
            batches = [prepare(model.processor, *inputs(model, sample)) for sample in asked]
            said = [model.architecture.runner.forward(model, sample).argmax(-1).tolist() for sample in asked]
        else:
            from sottovoce_omni_moe.conversation import inputs
            batches = [inputs(model, sample) for sample in asked]
            predictions = [model.architecture.runner.predict(model, sample) for sample in asked]
            said = [[int(token) for token in prediction.tokens] for prediction in predictions]
        tensors = {f"{n}.{key}": value.contiguous() for n, batch in enumerate(batches) for key, value in batch.items()}
        save_file(tensors, f"{job['folder']}/{place}.safetensors")
        found[f"hf {place}"]["said"] = said
print("FOUND" + json.dumps(found))
"""

STOCK = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch, transformers
from safetensors.torch import load_file

try:
    import sottovoce
except ImportError:
    pass
else:
    sys.exit("sottovoce is installed here")
job = json.load(sys.stdin)
found = {}
for name, (kind, place, inputs) in job["places"].items():
    model, info = getattr(transformers, kind).from_pretrained(place, output_loading_info=True)
    batches = {}
    for key, tensor in load_file(inputs).items():
        number, _, argument = key.partition(".")
        batches.setdefault(int(number), {})[argument] = tensor
    said = []
    for _, batch in sorted(batches.items()):
        with torch.inference_mode():
            if "Omni" in kind:
                ids = model.generate(
                    **batch, return_audio=False, thinker_max_new_tokens=32, thinker_do_sample=False,
                    thinker_eos_token_id=model.config.im_end_token_id,
                )
                ids = ids[0] if isinstance(ids, tuple) else ids
                said.append(getattr(ids, "sequences", ids)[0, batch["input_ids"].shape[1]:].tolist())
            else:
                said.append(model(**batch, use_cache=False).logits[0].argmax(-1).tolist())
    keys = {key: sorted(map(str, value)) for key, value in info.items() if key.endswith("_keys") and value}
    found[name] = {"said": said, "keys": keys}
print("FOUND" + json.dumps(found))
"""

FUNASR = """
import json, sys
import sottovoce_paraformer.register
from funasr import AutoModel

job = json.load(sys.stdin)
found = {}
for place in job["places"]:
    for hub in ("hf", "ms"):
        asr = AutoModel(model=f"alice/{place}", hub=hub, disable_update=True, disable_pbar=True, log_level="ERROR")
        found[f"{hub} {place}"] = [asr.generate(input=path)[0]["text"] for path in job["audio"]]
print("FOUND" + json.dumps(found))
"""


@dataclass(kw_only=True)
class Hubs:
    """Both, running, with the bundled models on the first."""

    server: Loopback
    hub: HuggingFace
    site_server: Loopback
    site: ModelScope
    folder: Path
    pushed: dict[str, Any] = field(default_factory=dict)

    def run(self, code: str, home: str, job: Any, interpreter: Path | str = sys.executable) -> Any:
        """What ``code`` says of ``job``, in a process of its own with its caches in ``home``."""
        environment = client.environment(self.server, self.folder / home) | {
            "MODELSCOPE_ENDPOINT": self.site_server.address,
            "TQDM_DISABLE": "1",
        }
        if interpreter == sys.executable:
            done = run_code(code, environment, given=json.dumps(job), imports=HUB_CLIENTS)
        else:
            environment["PYTHONPATH"] = str(client.TESTS)  # It has nothing of ours.
            done = subprocess.run(
                [interpreter, "-W", "ignore", "-c", code],
                input=json.dumps(job),
                capture_output=True,
                text=True,
                check=False,
                env=environment,
                timeout=900,
            )
        assert done.returncode == 0, done.stderr[-4000:]
        line = next(line for line in done.stdout.splitlines() if line.startswith(("REPORTS", "FOUND")))
        return json.loads(line[line.index("{") :])

    def files(self, hub: str, place: str) -> dict[str, bytes]:
        """What a repository's main branch holds."""
        repository = self.hub.repositories[f"alice/{place}"] if hub == "hf" else self.site.models[f"alice/{place}"]
        branch = "main" if hub == "hf" else "master"
        return {name: blob.content for name, blob in repository.find(branch).files.items()}


def manifest(source: Path, count: int, folder: Path) -> str:
    """Every so many lines of a manifest, ``count`` in all, wherever they lie."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    rows = rows[:: max(len(rows) // count, 1)][:count]
    for row in rows:
        if "source" in row:
            row["source"] = str(source.parent / row["source"])
        for message in row.get("messages", ()):
            for item in message["content"]:
                for kind in ("audio", "image", "video"):
                    if kind in item:
                        place = item[kind]
                        item[kind] = (
                            [str(source.parent / each) for each in place]
                            if isinstance(place, list)
                            else str(source.parent / place)
                        )
    path = folder / f"{source.parent.name}-{source.stem}.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    folder = tmp_path_factory.mktemp("manifests")
    speech = {split: manifest(SPEECH / f"{split}.jsonl", 12, folder) for split in ("test", "calibration")}
    questions = {split: manifest(QUESTIONS / f"{split}.jsonl", 12, folder) for split in ("test", "calibration")}
    return {
        split: {"tiny-paraformer": speech[split], "tiny-aligner": speech[split], "tiny-omni": questions[split]}
        for split in ("test", "calibration")
    }


def wanted(items: list[pytest.Item]) -> set[str]:
    """The places that the tests ask for which run; all, where they name none."""
    own = [item for item in items if item.path == Path(__file__) and isinstance(item, pytest.Function)]
    return {item.callspec.params["place"] for item in own if "place" in item.fixturenames} or set(PUBLISHED)


@pytest.fixture(scope="module")
def hubs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, manifests: dict[str, dict[str, str]]
) -> Iterator[Hubs]:
    folder, places = tmp_path_factory.mktemp("published"), wanted(request.session.items)
    alice = Account(name="alice")
    with hugging_face(**{TOKEN: alice}) as (server, hub), modelscope(**{SITE_TOKEN: alice}) as (site_server, site):
        running = Hubs(server=server, hub=hub, site_server=site_server, site=site, folder=folder)
        for name in RECIPES:
            files = {path.name: Blob(path.read_bytes()) for path in (MODELS / name).iterdir()}
            hub.repositories.setdefault(f"alice/{name}", Repository(name=f"alice/{name}")).commit(
                "main", files, (), "Upload"
            )
        job = {
            "recipes": {
                name: [recipe for recipe in recipes if f"{name}-{recipe}" in places]
                for name, recipes in RECIPES.items()
            },
            "folder": str(folder),
            **manifests,
            "tokens": {"hf": TOKEN, "modelscope": SITE_TOKEN},
        }
        running.pushed = running.run(PUBLISH, "home", job)
        yield running


@pytest.fixture(scope="module")
def fetched(hubs: Hubs, manifests: dict[str, dict[str, str]]) -> dict[str, Any]:
    places = {
        f"{name}-{recipe}": manifests["test"][name]
        for name, recipes in RECIPES.items()
        for recipe in recipes
        if f"{name}-{recipe}" in hubs.pushed
    }
    found: dict[str, Any] = hubs.run(FETCH, "elsewhere", {"places": places, "folder": str(hubs.folder)})
    return found


@pytest.mark.parametrize("place", PLACES)
def test_what_is_on_the_hubs_is_what_was_written(place: str, hubs: Hubs) -> None:
    form = json.loads((hubs.folder / place / "compression.json").read_text(encoding="utf-8"))
    for hub in HUBS:
        there = hubs.files(hub, place)
        for name in (*form["files"], "compression.json"):
            assert there[name] == (hubs.folder / place / name).read_bytes()
        assert {file["name"] for file in hubs.pushed[place][hub]["files"]} <= set(there)
        assert hubs.pushed[place][hub]["created"]


@pytest.mark.parametrize("place", PLACES)
def test_the_base_model_is_pinned(place: str, hubs: Hubs) -> None:
    name = place.rpartition("-int8-weight")[0] or next(base for base in RECIPES if place.startswith(base))
    revision = hubs.hub.repositories[f"alice/{name}"].refs["main"]
    form = json.loads((hubs.folder / place / "compression.json").read_text(encoding="utf-8"))
    assert (form["source"]["name"], form["source"]["hub"], form["source"]["revision"]) == (
        f"alice/{name}",
        "hf",
        revision,
    )
    assert form["source"]["license"]["id"] == "apache-2.0"
    card = hubs.files("hf", place)["README.md"].decode()
    assert f"base_model: alice/{name}\n" in card
    assert "license: apache-2.0\n" in card
    assert revision[:7] in card


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize("place", PLACES)
def test_the_figures_are_those_on_the_card(hub: str, place: str, hubs: Hubs, fetched: dict[str, Any]) -> None:
    form = json.loads((hubs.folder / place / "compression.json").read_text(encoding="utf-8"))
    measured = form["evaluations"][0]["metrics"]
    metrics = fetched[f"{hub} {place}"]["metrics"]
    assert len(set(metrics) - COSTS) >= 2
    for name in set(metrics) - COSTS:
        assert metrics[name]["value"] == measured[name]["value"], name
    assert fetched[f"{hub} {place}"]["source"] == f"alice/{place}"


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_pulled_is_what_was_pushed(hub: str, place: str, hubs: Hubs, fetched: dict[str, Any]) -> None:
    pulled = fetched[f"{hub} {place}"]["pulled"]
    assert pulled["verified"]
    there = hubs.files(hub, place)
    assert {"README.md", "compression.json"} <= set(pulled["files"])
    for name in pulled["files"]:
        assert (Path(pulled["directory"]) / name).read_bytes() == there[name]


@pytest.mark.slow
def test_stock_transformers_loads_by_the_id_and_says_the_same(hubs: Hubs, fetched: dict[str, Any]) -> None:
    kinds = {"aligner": "Qwen3ASRForTokenClassification", "omni": "Qwen3OmniMoeForConditionalGeneration"}
    places, pushed = {}, [place for place in TRANSFORMERS if place in hubs.pushed]
    for place in pushed:
        kind = next(found for word, found in kinds.items() if word in place)
        inputs = str(hubs.folder / f"{place}.safetensors")
        places[f"hf {place}"] = (kind, f"alice/{place}", inputs)
        places[f"modelscope {place}"] = (kind, fetched[f"modelscope {place}"]["pulled"]["directory"], inputs)
    found = hubs.run(STOCK, "stock", {"places": places}, stock_transformers())
    assert pushed
    for place in pushed:
        ours = fetched[f"hf {place}"]["said"]
        for hub in HUBS:
            theirs = found[f"{hub} {place}"]
            assert theirs["keys"] == {}
            assert len(theirs["said"]) == len(ours) == 3
            same = [
                sum(a == b for a, b in zip(x, y, strict=True)) / len(x)
                for x, y in zip(theirs["said"], ours, strict=True)
            ]
            # int8 rounds the inputs of its products, here and there by another arithmetic.
            assert min(same) >= (0.9 if place.endswith("int8") else 1.0), place


def test_funasr_loads_by_the_id_and_hears_the_same(hubs: Hubs, manifests: dict[str, dict[str, str]]) -> None:
    rows = [
        json.loads(line) for line in Path(manifests["test"]["tiny-paraformer"]).read_text(encoding="utf-8").splitlines()
    ]
    places = [place for place in PUBLISHED if place.startswith("tiny-paraformer") and place in hubs.pushed]
    assert places
    job = {"places": places, "audio": [row["source"] for row in rows[:6]]}
    found = hubs.run(FUNASR, "funasr", job)
    for place in places:
        assert found[f"hf {place}"] == found[f"ms {place}"]
        heard = ["".join(text.split()) for text in found[f"hf {place}"]]
        assert sum(text == row["target"] for text, row in zip(heard, rows, strict=False)) >= 4

"""What is saved loads in transformers itself, where Sottovoce is not installed, and says the same there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import sottovoce
from environments import stock_transformers
from sottovoce import Model, read_samples
from sottovoce_forced_aligner.inference import inputs
from sottovoce_forced_aligner.reading import prepare, run

ROOT = Path(__file__).parents[3]
TRAINED = ROOT / "examples" / "models" / "tiny-aligner"
TEST = ROOT / "examples" / "data" / "mandarin-commands" / "test.jsonl"
CALIBRATION = ROOT / "tests" / "calibration.jsonl"
MIXED = {
    "steps": [
        {
            "step": "quantize",
            "bits": 4,
            "embeddings": "int8",
            "overrides": {
                r"re:.*\.layers\.1\..*": {"bits": 8},
                r"re:.*\.(q|k|v)_proj": {"bits": 8, "group_size": 32},
            },
        }
    ]
}
ASYMMETRIC = {"steps": [{"step": "quantize", "bits": 8, "symmetric": False}]}
GROUPS = {"steps": [{"step": "quantize", "bits": 4, "symmetric": False, "group_size": 32}]}
FEW = {
    "steps": [
        {
            "step": "quantize",
            "bits": 3,
            "weight_range": "mse",
            "embeddings": "int8",
            "overrides": {r"re:.*\.(q|k|v)_proj": {"bits": 2, "group_size": 16}},
        }
    ]
}
FEW_ASYMMETRIC = {"steps": [{"step": "quantize", "bits": 3, "symmetric": False, "group_size": 32}]}
HEADS = {"steps": [{"step": "prune_heads", "text": 0.5, "score": "magnitude", "refit": False}]}
RECIPES: dict[str, Any] = {
    "int8": "int8",
    "int8-weight": "int8-weight",
    "fp8": "fp8",
    "int4": "int4",
    "mixed": MIXED,
    "asymmetric": ASYMMETRIC,
    "asymmetric groups": GROUPS,
    "few bits": FEW,
    "few bits, asymmetric": FEW_ASYMMETRIC,
    "fewer heads": HEADS,
}
ROUNDED = ("int8", "asymmetric groups", "few bits, asymmetric")
"""Inputs, or weights: transformers brings packed weights with zero points to the dtype of their scales first."""
UTTERANCES = 16

CLIENT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, Qwen3ASRForTokenClassification

try:
    import sottovoce
except ImportError:
    pass
else:
    sys.exit("sottovoce is installed here")
job = json.load(sys.stdin)
given = load_file(job["inputs"])
batches = {}
for name, tensor in given.items():
    number, _, key = name.partition(".")
    batches.setdefault(number, {})[key] = tensor
for name, directory in job["directories"].items():
    model, info = Qwen3ASRForTokenClassification.from_pretrained(directory, output_loading_info=True)
    processor, alike, logits = AutoProcessor.from_pretrained(directory), True, {}
    for number, batch in batches.items():
        batch = dict(batch)
        words = [{"type": "text", "text": word} for word in job["words"][int(number)]]
        content = [{"type": "audio", "audio": batch.pop("audio").numpy()}, *words]
        made = processor.apply_chat_template(
            [[{"role": "user", "content": content}]], tokenize=True, return_dict=True
        )
        alike &= made["input_ids"].equal(batch["input_ids"])
        alike &= made["input_features"].equal(batch["input_features"])
        with torch.inference_mode():
            logits[number] = model.eval()(**batch, use_cache=False).logits[0].contiguous()
    save_file(logits, directory + ".logits.safetensors")
    print("loaded", json.dumps({"name": name, "alike": alike, **{key: sorted(map(str, info[key])) for key in info}}))
"""


def saved(recipe: Any, directory: Path) -> Model:
    """The bundled aligner compressed by a recipe, as it loads again."""
    model = sottovoce.load(TRAINED)
    sottovoce.compress(model, recipe, CALIBRATION if recipe == "int4" else None)
    return sottovoce.load(sottovoce.save(model, directory))


class Loaded:
    """What Sottovoce and transformers make of every saved model."""

    def __init__(self, python: Path, folder: Path) -> None:
        models = {name: saved(recipe, folder / name) for name, recipe in RECIPES.items()}
        tensors: dict[str, Tensor] = {}
        batches, words = [], []
        processor = models["int8"].processor
        for number, sample in enumerate(read_samples(TEST)[:UTTERANCES]):
            audio, spoken = inputs(models["int8"], sample)
            batch = prepare(processor, audio, spoken)
            tensors |= {f"{number}.{key}": tensor.contiguous() for key, tensor in batch.items()}
            tensors[f"{number}.audio"] = torch.from_numpy(audio)
            batches.append(batch)
            words.append(spoken)
        save_file(tensors, folder / "inputs.safetensors")
        self.marker = models["int8"].native.config.timestamp_token_id
        self.ids = [batch["input_ids"][0] for batch in batches]
        self.ours: dict[str, list[Tensor]] = {}
        with torch.inference_mode():
            for name, model in models.items():
                self.ours[name] = [run(model.native, batch)[0] for batch in batches]
        job = {
            "inputs": str(folder / "inputs.safetensors"),
            "words": words,
            "directories": {name: str(folder / name) for name in RECIPES},
        }
        done = subprocess.run(
            [python, "-c", CLIENT], input=json.dumps(job), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        lines = [line.removeprefix("loaded ") for line in done.stdout.splitlines() if line.startswith("loaded ")]
        self.facts = {facts["name"]: facts for facts in map(json.loads, lines)}
        self.theirs: dict[str, list[Tensor]] = {}
        for name in RECIPES:
            logits = load_file(folder / f"{name}.logits.safetensors")
            self.theirs[name] = [logits[str(number)] for number in range(UTTERANCES)]

    def boundaries(self, logits: list[Tensor]) -> Tensor:
        """The labels of every word's start and end."""
        return torch.cat([each[ids == self.marker].argmax(-1) for each, ids in zip(logits, self.ids, strict=True)])


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return Loaded(stock_transformers(), tmp_path_factory.mktemp("stock"))


@pytest.mark.parametrize("name", RECIPES)
def test_every_tensor_finds_its_place_and_the_processor_gives_the_same(name: str, loaded: Loaded) -> None:
    facts = loaded.facts[name]
    assert {key: found for key, found in facts.items() if key.endswith("_keys") and found} == {}
    assert {"missing_keys", "unexpected_keys", "mismatched_keys"} <= facts.keys()
    assert facts["alike"]


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ROUNDED])
def test_formats_of_weights_give_the_same_logits(name: str, loaded: Loaded) -> None:
    for mine, other in zip(loaded.ours[name], loaded.theirs[name], strict=True):
        assert mine.dtype == other.dtype == torch.float32
        torch.testing.assert_close(other, mine, rtol=1e-4, atol=1e-4)
    assert loaded.boundaries(loaded.theirs[name]).equal(loaded.boundaries(loaded.ours[name]))


def test_zero_points_of_groups_give_the_same_boundaries(loaded: Loaded) -> None:
    """Transformers brings the weights to bfloat16, as their scales are, before they are float32 again."""
    name = "asymmetric groups"
    mine, theirs = torch.cat(loaded.ours[name]), torch.cat(loaded.theirs[name])
    assert 0 < float((theirs - mine).std()) < 0.02 * float(mine.std())
    agreement = loaded.boundaries(loaded.theirs[name]) == loaded.boundaries(loaded.ours[name])
    assert float(agreement.float().mean()) > 0.98


@pytest.mark.parametrize("embeddings", ["int8", "keep"])
def test_what_transformers_cannot_read_is_told(embeddings: str) -> None:
    step = {**GROUPS["steps"][0], "embeddings": embeddings}
    report = sottovoce.compress(sottovoce.load(TRAINED), {"steps": [step]}).to_dict()
    told = [note for note in report["steps"][0].get("notes", ()) if "transformers by itself cannot" in note]
    assert len(told) == (embeddings == "int8")


def test_int8_products_give_the_same_boundaries(loaded: Loaded) -> None:
    """Both round the inputs, each by an arithmetic of its own."""
    mine, other = loaded.boundaries(loaded.ours["int8"]), loaded.boundaries(loaded.theirs["int8"])
    assert len(mine) >= 200
    same = float((mine == other).float().mean())
    assert same >= 0.95, f"{same:.1%} of the boundaries are the same"

"""Cards of the bundled models as they are really compressed, by two recipes each."""

from __future__ import annotations

import json
import re

import pytest
import yaml

import sottovoce
from hub.card.reports import tables
from sottovoce_hub.card import Variant, check_metadata, write_card

MODELS = "examples/models"
SPEECH = "tests/calibration.jsonl"
TALK = "examples/data/omni-tasks/calibration.jsonl"


@pytest.fixture(scope="module")
def compressed(tmp_path_factory, request):
    """The directory of a bundled model after a recipe; made once."""
    root = request.config.rootpath
    made = {}

    def make(name, recipe, data=None):
        if (name, recipe) not in made:
            model = sottovoce.load(root / MODELS / name)
            sottovoce.compress(model, recipe, samples=root / data if data else None)
            made[name, recipe] = sottovoce.save(model, tmp_path_factory.mktemp("cards") / f"{name}-{recipe}")
        return made[name, recipe]

    return make


@pytest.mark.parametrize(
    ("name", "recipe", "data", "tag"),
    [
        ("tiny-paraformer", "int8", None, "int8"),
        ("tiny-paraformer", "int4", SPEECH, "gptaq"),
        ("tiny-aligner", "int8-weight", None, "int8"),
        ("tiny-aligner", "int4", SPEECH, "gptaq"),
        ("tiny-omni", "int8", None, "w8a8"),
        ("tiny-omni", "reap50-int4", TALK, "expert-pruning"),
    ],
)
@pytest.mark.parametrize("hub", ["hf", "modelscope"])
def test_the_card_says_what_the_report_does(compressed, name, recipe, data, tag, hub):
    directory = compressed(name, recipe, data)
    report = json.loads((directory / "compression.json").read_text(encoding="utf-8"))
    made = write_card(directory, repository=f"me/{name}-{recipe}", hub=hub)
    assert made == write_card(directory, repository=f"me/{name}-{recipe}", hub=hub)
    text = made["README.md"].decode()
    assert check_metadata(text, hub) == []
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert tag in metadata["tags"]
    assert report["card"]["library_name"] == metadata["library_name"]
    english = made["README.md" if hub == "hf" else "README_en.md"].decode()
    recipe_shown = re.search(r"## Recipe\n\n.*?```yaml\n(.*?)```", english, re.S)
    assert yaml.safe_load(recipe_shown[1]) == report["recipe"]
    assert f"This is the preset `{recipe}`, in full:" in english
    parts = report["steps"][-1]["coverage"]["parts"]
    last = [table for table in tables(english) if table[0][0] == "part of the model"][-1]
    shown = {row[0]: row[1:3] for row in last[1:-1]}
    assert shown == {
        name: [f"{part['parameters']:,}", f"{part['compressed_parameters']:,}"] for name, part in parts.items()
    }
    for step in report["steps"]:
        assert all(kept["reason"].split(":")[0] in english for kept in step["kept"])
    if data is not None:
        assert report["samples"]["sha256"] in english
    assert "saliency.png" not in report["files"] or "](saliency.png)" in english
    assert "card/layer-error.png" in made


def test_two_recipes_of_a_model_name_each_other(compressed):
    eight, four = compressed("tiny-paraformer", "int8"), compressed("tiny-paraformer", "int4", SPEECH)
    report = json.loads((four / "compression.json").read_text(encoding="utf-8"))
    other = Variant(name="int4", repository="me/small", branch="int4", report=report)
    text = write_card(eight, repository="me/small", hub="hf", variants=[other])["README.md"].decode()
    assert "[int4](https://huggingface.co/me/small/tree/int4)" in text

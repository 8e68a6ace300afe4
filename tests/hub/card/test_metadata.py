"""The metadata of a card, and the look at it before it is published."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCard

from hub.card.reports import DIGEST, PRUNED, QUANTIZED, changed, saved
from sottovoce_hub.card import check_metadata, write_card

pytestmark = pytest.mark.usefixtures("undrawn")


def card(directory, form, hub="hf"):
    return write_card(saved(directory, form), repository="me/small", hub=hub)["README.md"].decode()


def metadata(directory, form, hub="hf"):
    text = card(directory, form, hub)
    assert check_metadata(text, hub) == []
    return yaml.safe_load(text.split("---\n")[1])


def test_what_the_hugging_face_hub_is_told(tmp_path):
    found = metadata(tmp_path, QUANTIZED)
    assert {key: value for key, value in found.items() if key != "model-index"} == {
        "license": "apache-2.0",
        "language": ["zh", "en"],
        "library_name": "funasr",
        "pipeline_tag": "automatic-speech-recognition",
        "base_model": "owner/base",
        "base_model_relation": "quantized",
        "tags": ["sottovoce", "family", "int8", "w8a8", "squant", "compressed-tensors"],
        "metrics": ["cer", "token_agreement"],
    }


def test_the_model_index_has_the_values_as_they_were_measured(tmp_path):
    read = ModelCard(card(tmp_path, QUANTIZED)).data
    assert read.model_name == "small"
    assert [(each.metric_type, each.metric_value, each.metric_name) for each in read.eval_results] == [
        ("cer", 3.125, "character error rate (CER), %"),
        ("token_agreement", 98.75, "token agreement with the base model, %"),
    ]
    result = read.eval_results[0]
    assert (result.task_type, result.dataset_type) == ("automatic-speech-recognition", "test.jsonl")
    assert result.dataset_args == {"samples": 160, "audio_seconds": 436.25, "sha256": DIGEST}


def test_a_named_data_set_stands_in_the_model_index(tmp_path):
    dataset = {"id": "speech/aishell", "task": "asr", "split": "test", "revision": "v1"}
    result = ModelCard(card(tmp_path, changed(QUANTIZED, evaluations__0__dataset=dataset))).data.eval_results[0]
    assert (result.dataset_type, result.dataset_split, result.dataset_revision) == ("speech/aishell", "test", "v1")


def test_other_samples_of_the_same_name_are_other_results(tmp_path):
    other = changed(QUANTIZED, evaluations__0__samples__sha256="cd" * 32)["evaluations"]
    read = ModelCard(card(tmp_path, changed(QUANTIZED, evaluations=[*QUANTIZED["evaluations"], *other]))).data
    assert len({each.dataset_type for each in read.eval_results}) == 2


def test_without_a_figure_of_quality_there_is_no_model_index(tmp_path):
    speed = {"rtf": {"value": 0.5, "unit": ""}, "cer": {"value": None, "unit": "%"}}
    for form in (changed(QUANTIZED, evaluations=[]), changed(QUANTIZED, evaluations__0__metrics=speed)):
        assert "model-index" not in metadata(tmp_path, form)


def test_what_modelscope_is_told(tmp_path):
    form = changed(QUANTIZED, source__hub="modelscope")
    assert metadata(tmp_path, form, "modelscope") == {
        "license": "Apache License 2.0",
        "language": ["zh", "en"],
        "frameworks": ["pytorch"],
        "tasks": ["auto-speech-recognition"],
        "library_name": "funasr",
        "base_model": "owner/base",
        "base_model_relation": "quantized",
        "metrics": ["cer", "token_agreement"],
        "tags": ["sottovoce", "family", "int8", "w8a8", "squant", "compressed-tensors"],
    }


def test_a_base_model_of_another_place_is_no_base_model_here(tmp_path):
    assert "base_model" not in metadata(tmp_path, QUANTIZED, "modelscope")
    local = changed(QUANTIZED, source__name="base", source__hub=None, source__revision=None)
    assert not {"base_model", "base_model_relation"} & set(metadata(tmp_path, local))


@pytest.mark.parametrize(
    ("names", "relation"),
    [
        (["quantize"], "quantized"),
        (["prune_experts"], "finetune"),
        (["prune_experts", "quantize"], "quantized"),
        (["distill", "quantize"], "finetune"),
        (["fine_tune", "quantize"], "finetune"),
        ([], None),
    ],
)
def test_what_it_is_to_its_base_model(tmp_path, names, relation):
    steps = [{"step": {"step": name}} for name in names]
    assert metadata(tmp_path, changed(QUANTIZED, steps=steps)).get("base_model_relation") == relation


@pytest.mark.parametrize(("bits", "relation"), [(4.5, "quantized"), (16, "finetune"), (None, "finetune")])
def test_a_third_partys_step_quantizes_where_it_stores_fewer_bits(tmp_path, bits, relation):
    step = {"step": {"step": "squeeze"}, "targets": [{"name": "a", "parameters": 5, "bits": bits}]}
    assert metadata(tmp_path, changed(QUANTIZED, steps=[step]))["base_model_relation"] == relation


def test_tags_name_what_was_done(tmp_path):
    assert metadata(tmp_path, PRUNED)["tags"] == ["sottovoce", "family", "pruned", "expert-pruning", "reap"]
    four = {"step": "quantize", "bits": 4, "method": "gptq", "activations": "none"}
    assert metadata(tmp_path, changed(QUANTIZED, steps__0__step=four, steps__0__targets=[]))["tags"][2:] == [
        "int4", "gptq", "compressed-tensors",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "files", "expected"),
    [
        (None, {}, {}),
        ({"id": "Apache License 2.0"}, {}, {"license": "apache-2.0"}),
        ({"id": "other", "name": "Own License", "link": "https://example.com/l"}, {},
         {"license": "other", "license_name": "own-license", "license_link": "https://example.com/l"}),
        ({"id": "own terms"}, {"LICENSE": "1" * 64},
         {"license": "other", "license_name": "own-terms", "license_link": "LICENSE"}),
        ({"id": "other", "link": "terms.md"}, {},
         {"license": "other", "license_name": "see-the-base-model",
          "license_link": "https://huggingface.co/owner/base/tree/0123456789abcdef0123456789abcdef01234567"}),
    ],
)  # fmt: skip
def test_the_licence_is_the_base_models(tmp_path, stated, files, expected):
    found = metadata(tmp_path, changed(QUANTIZED, source__license=stated, files=files))
    assert {key: value for key, value in found.items() if key.startswith("license")} == expected


@pytest.mark.parametrize(
    ("stated", "family", "expected"),
    [
        (["cn", "en", "zh"], [], ["zh", "en"]),
        (["Chinese"], ["zh"], ["zh"]),
        ([], [], None),
        (["no"], [], ["no"]),  # which YAML would read as false
    ],
)
def test_languages_are_codes(tmp_path, stated, family, expected):
    form = changed(QUANTIZED, source__languages=stated, card__languages=family)
    assert metadata(tmp_path, form).get("language") == expected


def test_a_task_that_the_hub_does_not_know_is_a_tag(tmp_path):
    found = metadata(tmp_path, changed(QUANTIZED, card__pipeline_tag="audio-token-classification"))
    assert "pipeline_tag" not in found
    assert "audio-token-classification" in found["tags"]


GOOD = {"license": "mit", "tags": ["sottovoce"], "language": ["zh"]}


def test_good_metadata_has_no_problems():
    assert check_metadata(written(GOOD)) == []


def written(form):
    return f"---\n{yaml.safe_dump(form, allow_unicode=True)}---\n# Title\n"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"license": "Apache License 2.0"}, "license 'Apache License 2.0' is not one that the hub knows"),
        ({"license": "other"}, "license other needs a license_name"),
        ({"license_name": "own"}, "license_name is for the license other"),
        ({"license": 3}, "license must be text"),
        ({"language": ["Chinese"]}, "language 'Chinese' is not an ISO 639 code"),
        ({"language": [False]}, "language must be a list of words"),
        ({"tags": []}, "tags must have sottovoce among them"),
        ({"tags": "sottovoce"}, "tags must be a list of words"),
        ({"tags": 5}, "tags must be a list of words"),
        ({"pipeline_tag": "hearing"}, "pipeline_tag 'hearing' is not one that the hub knows"),
        ({"base_model": "base"}, "base_model 'base' is not owner/name"),
        ({"base_model": "a/b", "base_model_relation": "pruned"}, "base_model_relation 'pruned' is not one of"),
        ({"base_model_relation": "merge"}, "base_model_relation needs a base_model"),
        ({"model-index": [{"name": "x"}]}, "model-index cannot be read"),
        ({"model-index": [{"name": "x", "results": []}]}, "model-index has no results"),
        (
            {"model-index": [{"name": "x", "results": [{
                "task": {"type": "t"}, "dataset": {"type": "d", "name": "d"},
                "metrics": [{"type": "cer", "value": "good"}],
            }]}]},
            "the value of 'cer' is not a number",
        ),
    ],
)  # fmt: skip
def test_problems_are_found(wrong, problem):
    assert any(problem in found for found in check_metadata(written({**GOOD, **wrong})))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("# No metadata\n", "there is no metadata"),
        ("---\n- a list\n---\n", "must be a mapping, not list"),
        ("---\na: [\n---\n", "cannot be read"),
    ],
)
def test_metadata_that_is_none(text, problem):
    (found,) = check_metadata(text)
    assert problem in found


def test_modelscopes_names_are_for_modelscope():
    text = written({**GOOD, "license": "Apache License 2.0"})
    assert check_metadata(text, "modelscope") == []
    assert check_metadata(text, "hf") != []

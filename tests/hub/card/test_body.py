"""What a card says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from hub.card.reports import COMMIT, DIGEST, PRUNED, QUANTIZED, changed, saved, tables
from sottovoce.errors import PublishError
from sottovoce_hub.card import write_card

pytestmark = pytest.mark.usefixtures("undrawn")
PLACE = {"repository": "me/small", "hub": "hf"}


def english(directory, form, **place):
    return write_card(saved(directory, form), **{**PLACE, **place})["README.md"].decode()


def rows(text, header):
    return next(table for table in tables(text) if table[0][0] == header)[1:]


def test_the_measured_figures_stand_beside_the_base_models(tmp_path):
    text = english(tmp_path, QUANTIZED)
    assert rows(text, "metric") == [
        ["character error rate (CER) ↓", "2.50 %", "3.12 %", "+0.62 points", "99.4 %"],
        ["token agreement with the base model ↑", "the reference", "98.75 %", "", ""],
        ["size of the weights ↓", "42.2 kB", "12.3 kB", "× 0.29", ""],
        ["median latency ↓", "not measured", "not measured", "", ""],
        ["real-time factor (RTF) ↓", "not measured", "not measured", "", ""],
        ["peak memory ↓", "574.0 MB", "971.0 MB", "× 1.69", ""],
    ]
    assert f"`test.jsonl`: 160 samples, 436.25 s of audio, sha256 `{DIGEST}`" in text
    assert "Some CPU @ 3.1 GHz, cores: 8, threads: 2, Linux x86_64, python 3.11.7, torch 2.13.0" in text
    assert "Date: 2026-11-20" in text
    assert "| character error rate (CER) | 2.50 % → 3.12 % on 160 samples |" in text
    assert "| weights | 42.2 kB → 12.3 kB |" in text


def test_the_base_model_is_named_with_its_revision(tmp_path):
    text = english(tmp_path, QUANTIZED)
    assert f"[owner/base](https://huggingface.co/owner/base/tree/{COMMIT})" in text
    assert f"| base model revision | `{COMMIT}` |" in text
    assert f"sottovoce compress owner/base --recipe int8 --hub hf --revision {COMMIT} --output small" in text


def test_a_local_base_model_is_no_link(tmp_path):
    text = english(tmp_path, changed(QUANTIZED, source__name="base", source__hub=None, source__revision=None))
    assert "`base` (a local directory; its origin was not recorded)" in text
    assert "huggingface.co" not in text
    assert "sottovoce compress base --recipe int8 --output small" in text


def test_what_was_compressed_and_what_was_not(tmp_path):
    text = english(tmp_path, QUANTIZED)
    assert rows(text, "part of the model") == [
        ["encoder", "8,050", "8,000", "99.4 %"],
        ["decoder", "2,500", "2,000", "80.0 %"],
        ["total", "10,550", "10,000", "94.8 %"],
    ]
    assert rows(text, "reason") == [["output layer", "1", "500"], ["normalization", "2", "50"]]
    assert rows(text, "bits per weight") == [["8", "3", "10,000", "8.30"]]
    assert rows(text, "layer")[0] == ["encoder.1.a", "41.70 dB"]
    assert "- the last layer was left: it is small" in text


def test_layers_of_another_width_than_the_recipes_are_not_counted_as_its_own(tmp_path):
    step = {"step": "quantize", "bits": 4, "group_size": 64}
    text = english(tmp_path, changed(QUANTIZED, steps__0__targets__0__bits=4.25, steps__0__step=step))
    assert "- Quantized the weights of 3 layers to integers (1 to 4 bits, 2 to 8 bits; at 4 bits one scale per" in text
    assert rows(text, "bits per weight") == [["4", "1", "4,000", "4.25"], ["8", "2", "6,000", "8.33"]]


def test_the_recipe_is_there_in_full(tmp_path):
    text = english(tmp_path, QUANTIZED)
    assert "This is the preset `int8`, in full:" in text
    assert "steps:\n- step: quantize\n  bits: 8\n  type: int\n" in text
    own = english(tmp_path, changed(QUANTIZED, recipe__steps__0__ignore=["re:.*"]))
    assert "preset" not in own
    assert "Save the recipe above as `recipe.yaml`, then run:" in own
    assert "--recipe recipe.yaml" in own


def test_several_recipes_are_told_as_one_list_of_steps(tmp_path):
    first = {**QUANTIZED["steps"][0], "step": {"step": "smooth", "alpha": 0.25}}
    text = english(tmp_path, changed(QUANTIZED, steps=[first, *QUANTIZED["steps"]], evaluations=[]))
    assert "- step: smooth\n  alpha: 0.25\n- step: quantize" in text
    assert "sottovoce compress" not in text
    # The size before the last recipe is not the base model's.
    assert rows(text, "metric") == [["size of the weights ↓", "not measured", "12.3 kB", ""]]


def test_without_an_evaluation_nothing_is_claimed(tmp_path):
    text = english(tmp_path, changed(QUANTIZED, evaluations=[]))
    command = "sottovoce evaluate DIRECTORY --data DATA --baseline BASE --record"
    assert f"No evaluation is recorded. To add one, run `{command}`" in text
    assert rows(text, "metric") == [["size of the weights ↓", "42.2 kB", "12.3 kB", "× 0.29"]]
    assert "- Accuracy, speed and memory were not measured." in text
    assert not re.search(r"\bCER\b|real-time|latency", text)


def test_what_one_evaluation_left_out_is_said(tmp_path):
    metrics = {"rtf": {"value": 0.5, "unit": ""}, "accents": {"value": 3, "unit": "per line"}}
    text = english(tmp_path, changed(QUANTIZED, evaluations__0__metrics=metrics, evaluations__0__baseline=None))
    assert rows(text, "metric") == [
        ["accents", "not measured", "3 per line", ""],
        ["size of the weights ↓", "42.2 kB", "12.3 kB", "× 0.29"],
        ["median latency ↓", "not measured", "not measured", ""],
        ["real-time factor (RTF) ↓", "not measured", "not measured", ""],
        ["peak memory ↓", "not measured", "not measured", ""],
    ]
    assert "- The base model was not measured for comparison." in text
    assert "Accuracy was not measured" not in text
    speed = {"rtf": {"value": 0.5, "unit": ""}, "cer": {"value": None, "unit": "%"}}
    assert "- Accuracy was not measured." in english(tmp_path, changed(QUANTIZED, evaluations__0__metrics=speed))


def test_outputs_that_end_at_the_limit_of_tokens_are_counted(tmp_path):
    form = changed(QUANTIZED, evaluations__0__cut_off=3)
    files = write_card(saved(tmp_path, form), **PLACE)
    assert "at the limit of tokens, unfinished: this model 3, base model 0." in files["README.md"].decode()
    assert "本模型 3 条，基座模型 0 条" in files["README_zh.md"].decode()
    assert "limit of tokens" not in english(tmp_path / "other", QUANTIZED)


def test_a_value_that_is_no_number_was_not_measured(tmp_path):
    text = english(tmp_path, changed(QUANTIZED, evaluations__0__metrics__cer__value=None))
    assert rows(text, "metric")[0] == ["character error rate (CER) ↓", "2.50 %", "not measured", ""]
    with pytest.raises(PublishError, match="cannot be read .the number NaN is infinite or NaN"):
        english(tmp_path, changed(QUANTIZED, evaluations__0__metrics__cer__value=float("nan")))


def test_calibration_and_gate(tmp_path):
    data = {"name": "calibration.jsonl", "count": 64, "audio_seconds": 200.5, "sha256": "cd" * 32}
    gate = {
        "limits": {"max_cer_increase": 0.5, "min_token_agreement": 98},
        "rounds": 2,
        "samples": data,
        "found": {"max_cer_increase": 0.25, "min_token_agreement": 99.5},
        "raised": [{"name": "encoder.0.a", "bits": 8}, {"name": "encoder.1.a", "bits": 32}],
    }
    text = english(tmp_path, changed(QUANTIZED, samples=data, gate=gate))
    assert f"## Calibration\n\n`calibration.jsonl`: 64 samples, 200.50 s of audio, sha256 `{'cd' * 32}`" in text
    assert rows(text, "limit") == [
        ["increase of character error rate (CER), at most", "0.50", "0.25"],
        ["token agreement with the base model, at least", "98.00", "99.50"],
    ]
    assert ["encoder.0.a", "8 bits"] in sum(tables(text), [])
    assert ["encoder.1.a", "floating point"] in sum(tables(text), [])
    assert "2 layers were restored to higher precision in 2 rounds" in text
    assert "--data calibration.jsonl --output" in text
    assert "No calibration samples were used" in english(tmp_path, QUANTIZED)


def test_the_experts_that_stay(tmp_path):
    made = write_card(saved(tmp_path, PRUNED), **PLACE)
    text = made["README.md"].decode()
    assert "- Removed experts: thinker keeps 4 of 8 in each of 2 layers, chosen by reap." in text
    assert "the 2 layers of thinker.layers.&#42;.mlp.experts, by" in text
    assert ["0", "8", "0-2, 5", "73.10 %", "8.29 %"] in sum(tables(text), [])
    assert ["1", "8", "1, 4, 6-7", "95.00 %", ""] in sum(tables(text), [])
    assert "](saliency.png)" in text
    assert "saliency.png" not in made  # it lies beside the weights already
    assert "saliency" not in english(tmp_path, QUANTIZED)


def test_long_lists_are_folded_or_cut(tmp_path):
    layer = PRUNED["steps"][0]["details"]["layers"]["thinker.layers.1.mlp.experts"]
    many = {f"thinker.layers.{number}.mlp.experts": layer for number in range(48)}
    notes = [f"layer {number} was left" for number in range(25)]
    form = changed(PRUNED, steps__0__details__layers=many, steps__0__notes=notes)
    text = english(tmp_path, form)
    assert "<summary>Experts that stay in the 48 layers of thinker.layers.&#42;.mlp.experts, by" in text
    assert text.count("| 1, 4, 6-7 |") == 48
    assert "- layer 19 was left" in text
    assert "- layer 20 was left" not in text
    assert "- 5 more notes of this kind are in `compression.json`" in text


def test_what_no_index_has_is_installed_from_a_clone(tmp_path):
    card = {**QUANTIZED["card"], "packages": ["sottovoce-paraformer", "funasr"]}
    report = {**QUANTIZED, "card": card}
    assert "# in a clone of Sottovoce's repository\npip install . ./plugins/paraformer funasr\n" in english(
        tmp_path / "en", report
    )
    chinese = write_card(saved(tmp_path / "zh", report), repository="me/small", hub="hf")["README_zh.md"].decode()
    assert "克隆中运行\npip install . ./plugins/paraformer funasr\n" in chinese


def test_a_time_that_was_taken_by_turns_has_its_quartiles(tmp_path):
    ratio = {"ratio": {"median": 1.125, "quartiles": [1.0, 1.25], "rounds": 5}}
    metric = {"value": 17.625, "unit": "ms", "baseline": 15.875, "details": {"by_turns": ratio}}
    text = english(tmp_path, changed(QUANTIZED, evaluations__0__metrics__latency_ms=metric))
    assert ["median latency ↓", "15.88 ms", "17.62 ms", "× 1.12 (1.00-1.25)", ""] in rows(text, "metric")


def test_a_time_has_the_spread_of_its_rounds(tmp_path):
    spread = {"median": 17.625, "quartiles": [17.25, 18.5], "rounds": 5}
    base = {"median": 15.875, "quartiles": [15.5, 16.0], "rounds": 5}
    ratio = {"median": 1.125, "quartiles": [1.0, 1.25], "rounds": 5}
    turns = {"by_turns": {"ratio": ratio, "model": spread, "baseline": base}}
    metric = {"value": 17.625, "unit": "ms", "baseline": 15.875, "details": turns}
    text = english(tmp_path, changed(QUANTIZED, evaluations__0__metrics__latency_ms=metric))
    expected = ["15.88 ms (15.50-16.00)", "17.62 ms (17.25-18.50)", "× 1.12 (1.00-1.25)", ""]
    assert ["median latency ↓", *expected] in rows(text, "metric")


@pytest.mark.parametrize(
    ("better", "before", "after", "recovery"),
    [
        ("lower", 10.0, 19.0, "90.0 %"),
        ("higher", 50.0, 45.0, "90.0 %"),
        ("lower", 100.0, 50.0, ""),
        ("higher", 0, 0, ""),
    ],
)
def test_recovery_is_the_share_of_what_the_base_model_gets_right(tmp_path, better, before, after, recovery):
    metric = {"value": after, "unit": "%", "baseline": before, "kind": "quality", "better": better}
    text = english(tmp_path, changed(QUANTIZED, evaluations__0__metrics__cer=metric))
    row = next(row for row in rows(text, "metric") if row[0].startswith("cer"))
    assert row[4:] == ([recovery] if recovery else [""] * (len(row) - 4))


def test_intervals_and_test_stand_beside_the_values_and_are_explained(tmp_path):
    certain = {
        "evaluations__0__intervals": {"cer": {"low": 2.25, "high": 4.5}},
        "evaluations__0__baseline_intervals": {"cer": {"low": 1.5, "high": 3.75}},
        "evaluations__0__tests": {
            "cer": {"difference": 0.62, "low": 0.0, "high": 1.25, "p": 0.004, "samples": 160, "changed": 3}
        },
    }
    text = english(tmp_path, changed(QUANTIZED, **certain))
    expected = ["2.50 % [1.50, 3.75]", "3.12 % [2.25, 4.50]", "+0.62 points (p 0.004)", "99.4 %"]
    assert ["character error rate (CER) ↓", *expected] in rows(text, "metric")
    assert "Brackets hold 95 % intervals" in text
    assert "p is the probability" in text


def test_numbers_that_are_not_there_are_not_explained(tmp_path):
    text = english(tmp_path, QUANTIZED)
    assert "Recovery is the share" in text
    assert "Peak memory is that of the whole process" in text
    assert not {"Brackets", "p is the", "Times"} & set(re.findall(r"^- (Brackets|p is the|Times)", text, re.M))


def test_times_that_a_busy_machine_left_out_are_missed(tmp_path):
    form = changed(QUANTIZED, evaluations__0__machine__busy="other processes use 1.0 of its 2 cores")
    assert "- Times were not recorded: the machine was busy." in english(tmp_path / "en", form)
    assert (
        "- 未记录耗时：评测时机器繁忙。" in write_card(saved(tmp_path / "zh", form), **PLACE)["README_zh.md"].decode()
    )


@pytest.mark.parametrize(
    ("packages", "heading"),
    [
        (["sottovoce-paraformer", "funasr"], "With `funasr` itself, after an import of Sottovoce's plugin:"),
        (["funasr"], "With `funasr` alone:"),
    ],
)
def test_library_that_needs_a_plugin_is_not_said_to_run_alone(tmp_path, packages, heading):
    assert heading in english(tmp_path, {**QUANTIZED, "card": {**QUANTIZED["card"], "packages": packages}})


def test_publisher_may_name_the_base_model(tmp_path):
    text = english(tmp_path, QUANTIZED, base_model="someone/large@v2")
    assert "base_model: someone/large\n" in text
    assert "[someone/large](https://huggingface.co/someone/large/tree/v2)" in text


@pytest.mark.parametrize("name", ["large", "a/b/c", "http://a/b", "a/b c"])
def test_base_model_that_is_no_id_is_refused(tmp_path, name):
    with pytest.raises(PublishError, match="is not a base model's id; write it as owner/name"):
        english(tmp_path, QUANTIZED, base_model=name)


def test_first_snippet_prints_an_output(tmp_path):
    card = {**QUANTIZED["card"], "example": 'print(sottovoce.transcribe(model, "{audio}").text)'}
    text = english(tmp_path, {**QUANTIZED, "card": card})
    snippet = text.split("```python\n")[1].split("```")[0]
    assert snippet == (
        'import sottovoce\n\nmodel = sottovoce.load("me/small", hub="hf")\n'
        'print(sottovoce.transcribe(model, "audio.wav").text)\n'
    )


def test_model_index_has_rounded_values(tmp_path):
    text = english(tmp_path, changed(QUANTIZED, evaluations__0__metrics__cer__value=6.153846153846154))
    assert "value: 6.154\n" in text


def test_label_of_a_format_stands_beside_its_name_in_both_languages(tmp_path):
    form = changed(QUANTIZED, card__formats={"onnx": {"en": "graphs", "zh": "计算图"}})
    files = write_card(saved(tmp_path, form), repository="me/small", hub="hf")
    assert "**onnx** (graphs):" in files["README.md"].decode()
    assert "**onnx**（计算图）：" in files["README_zh.md"].decode()
    assert "**onnx**:" in english(tmp_path / "old", QUANTIZED)


def test_how_to_load_it_on_both_hubs(tmp_path):
    text = english(tmp_path, QUANTIZED)
    assert 'model = sottovoce.from_pretrained("me/small", hub="hf")' in text
    assert 'load("me/small", "audio.wav")' in text
    assert "pip install 'funasr>=1.4'" in text
    assert "sottovoce export me/small --hub hf --format onnx --output exported" in text
    assert 'run("exported", "audio.wav")' in text
    directory = saved(tmp_path, QUANTIZED)
    other = write_card(directory, repository="me/small", hub="modelscope")["README_en.md"].decode()
    assert 'model = sottovoce.from_pretrained("me/small", hub="modelscope")' in other
    assert 'fetch("me/small", {})' in other


def test_a_branch_is_named(tmp_path):
    text = english(tmp_path, QUANTIZED, branch="int8")
    assert 'from_pretrained("me/small", hub="hf", revision="int8")' in text
    assert "sottovoce pull me/small --hub hf --revision int8 --output model" in text
    main = english(tmp_path, QUANTIZED, branch="main")
    assert "revision" not in main.replace("base model revision", "").replace(f"--revision {COMMIT}", "")


def test_without_a_snippet_for_the_hub_the_one_for_a_directory_stands(tmp_path):
    text = english(tmp_path, changed(QUANTIZED, card__hub_usage={}))
    assert 'load("model", "audio.wav")' in text
    assert "sottovoce pull me/small --hub hf --output model" in text
    bare = english(tmp_path, changed(QUANTIZED, card=None))
    assert "from_pretrained" in bare
    assert "sottovoce pull" not in bare


def test_licences(tmp_path):
    assert "As the base model: `apache-2.0`" in english(tmp_path, QUANTIZED)
    none = english(tmp_path, changed(QUANTIZED, source__license=None))
    assert "| license | none stated by the base model |" in none
    assert "ask its authors before you use this model" in none


def test_both_languages_have_the_same_figures_and_tables(tmp_path):
    for form in (QUANTIZED, PRUNED):
        made = write_card(saved(tmp_path, form), **PLACE)
        one, other = (made[name].decode().split("---\n", 2)[-1] for name in ("README.md", "README_zh.md"))
        assert figures_of(one) == figures_of(other)
        assert [[len(row) for row in table] for table in tables(one)] == [
            [len(row) for row in table] for table in tables(other)
        ]
        assert re.findall(r"```.*?```", one, re.S) == re.findall(r"```.*?```", other, re.S)
        assert one.count("\n#") == other.count("\n#")


def figures_of(text):
    return Counter(re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"\(CER\)|（CER）", "", text)))


def test_the_chinese_card_is_chinese(tmp_path):
    text = write_card(saved(tmp_path, QUANTIZED), **PLACE)["README_zh.md"].decode()
    assert text.startswith("[English](README.md) | 简体中文\n")
    assert ["字错误率（CER） ↓", "2.50 %", "3.12 %", "+0.62 个百分点", "99.4 %"] in sum(tables(text), [])
    assert ["归一化层", "2", "50"] in sum(tables(text), [])
    prose = re.sub(r"```.*?```|`[^`]*`|<[^>]*>|\]\([^)]*\)", "", text, flags=re.S)
    for line in prose.splitlines():
        words = re.findall(r"[A-Za-z]{3,}(?: [A-Za-z]{3,}){3,}", line)
        assert not words or "the last layer was left" in line, line


def test_what_a_family_says_is_translated_where_it_says_how(tmp_path):
    known = {"zh": {"the last layer was left: it is small": "保留了最后一层：它很小"}}
    form = changed(QUANTIZED, card__translations=known)
    assert "- 保留了最后一层：它很小\n" in write_card(saved(tmp_path, form), **PLACE)["README_zh.md"].decode()


def test_modelscope_shows_the_chinese_card(tmp_path):
    made = write_card(saved(tmp_path, QUANTIZED), repository="me/small", hub="modelscope")
    assert "[English](README_en.md) | 简体中文" in made["README.md"].decode()
    assert made["README_en.md"].decode().startswith("English | [简体中文](README.md)\n")


def test_nothing_heavy_is_imported():
    heavy = "{'torch', 'huggingface_hub', 'matplotlib', 'jinja2'}"
    code = f"import sys, sottovoce_hub.card; print(*({heavy} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "has no compression.json"),
        ("{", "cannot be read"),
        ("[]", "cannot be read (the whole: it should be an object)"),
        ('{"architecture": 3}', "architecture: Input should be a valid string"),
        (
            '{"architecture": "x", "source": {"name": "y"}, "size_bytes": {"before": 1}}',
            "size_bytes.after: Field required",
        ),
    ],
)
def test_a_damaged_report_is_one_line(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "compression.json").write_text(content)
    with pytest.raises(PublishError, match=re.escape(problem)) as raised:
        write_card(tmp_path, **PLACE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("wrong", [{"repository": "small"}, {"repository": 'me/"x'}, {"hub": "elsewhere"}])
def test_names_that_no_hub_takes_are_refused(tmp_path, wrong):
    with pytest.raises(PublishError):
        write_card(saved(tmp_path, QUANTIZED), **{**PLACE, **wrong})

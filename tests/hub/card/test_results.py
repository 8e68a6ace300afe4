"""Results for the leaderboards of benchmarks."""

from __future__ import annotations

import yaml
from huggingface_hub._eval_results import parse_eval_result_entries

from hub.card.reports import QUANTIZED, changed
from sottovoce_hub.card import eval_results
from sottovoce_hub.card.reading import check

ON_BENCHMARK = changed(
    QUANTIZED, evaluations__0__dataset={"id": "speech/aishell", "task": "asr-zh", "revision": "a1b2"}
)


def test_a_registered_benchmark_gets_its_main_figure():
    asked = []
    content = eval_results(ON_BENCHMARK, lambda dataset: not asked.append(dataset))
    assert asked == ["speech/aishell"]
    (entry,) = parse_eval_result_entries(yaml.safe_load(content))
    assert (entry.dataset_id, entry.task_id, entry.dataset_revision) == ("speech/aishell", "asr-zh", "a1b2")
    assert (entry.value, entry.date) == (3.125, "2026-11-20")
    assert "cer in % on 160 samples" in entry.notes


def test_other_data_sets_get_none():
    assert eval_results(ON_BENCHMARK, lambda dataset: False) is None
    assert eval_results(QUANTIZED, lambda dataset: True) is None
    without = changed(ON_BENCHMARK, evaluations__0__metrics={"rtf": {"value": 0.1, "unit": ""}})
    assert eval_results(without, lambda dataset: True) is None


def test_english_is_told_by_words():
    metrics = {"cer": {"value": 1.5, "unit": "%"}, "wer": {"value": 4.5, "unit": "%"}}
    form = changed(ON_BENCHMARK, evaluations__0__metrics=metrics, card__languages=["en"])
    assert yaml.safe_load(eval_results(form, lambda dataset: True))[0]["value"] == 4.5


def shown(metrics):
    return list(check(changed(ON_BENCHMARK, evaluations__0__metrics=metrics)).evaluations[0].metrics)


def test_words_that_were_characters_are_not_told_twice():
    counts = {"substitutions": 1, "deletions": 0, "insertions": 0, "reference": 9}
    twins = {name: {"value": 11.1, "unit": "%", "details": counts} for name in ("cer", "wer")}
    assert shown(twins) == ["cer"]
    twins["wer"]["details"] = counts | {"reference": 3}
    assert shown(twins) == ["cer", "wer"]

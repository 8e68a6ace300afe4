"""The page of a comparison: valid HTML of one file, with the numbers inside, whatever texts it is given."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.reports.page_reader import Reader
from sottovoce import Comparison, Metric, Sample, Samples, Text, read_samples
from sottovoce.entrypoints.comparison import files
from sottovoce.entrypoints.comparison.files import LARGEST_PAGE, fitted, with_audio
from sottovoce.report import (
    ComparedModel,
    Interval,
    LayerError,
    LeftOut,
    Machine,
    Output,
    PairedTest,
    SampleSet,
    Utterance,
)
from sottovoce.reports.html.charts import size_against_error
from sottovoce.reports.html.page import render
from sottovoce.reports.html.svg import WIDTH

HOSTILE = "</script><script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>'\"&\u2028"


def metric(value: float, **facts: Any) -> Metric:
    return Metric(
        name="cer", value=value, unit="%", kind="quality", better="lower", label=Text(en="error rate"), **facts
    )


def cost(name: str, value: float, baseline: float | None = None, **facts: Any) -> Metric:
    return Metric(name=name, value=value, baseline=baseline, unit="ms", kind="cost", better="lower", **facts)


def model(name: str, value: float, **facts: Any) -> ComparedModel:
    turns = {"by_turns": {"ratio": spread(0.5), "model": spread(20.0), "baseline": spread(40.0)}}
    return ComparedModel(
        name=name,
        size_bytes=3_700_000,
        metrics={"cer": metric(value), "latency_ms": cost("latency_ms", 20.0, 40.0, details=turns)},
        intervals={"cer": Interval(low=value - 1, high=value + 1)},
        parts={"encoder": 3_000_000, "decoder": 700_000},
        **facts,
    )


def spread(median: float) -> dict[str, Any]:
    return {"median": median, "quartiles": [0.9 * median, 1.1 * median], "rounds": 5}


def utterance(key: str, text: str = "关闭卧视窗帘") -> Utterance:
    output = Output(
        text=text, edits=(("=", "关闭卧", "关闭卧"), ("substitute", "室", text), ("delete", "的", "")), error=28.6
    )
    base = Output(text="关闭卧室的窗帘", edits=(("=", "关闭卧室的窗帘", "关闭卧室的窗帘"),), error=0.0)
    return Utterance(
        key=key, reference="关闭卧室的窗帘", language="zh", seconds=2.5, outputs={"base": base, "small": output}
    )


def comparison(text: str = "plain", **facts: Any) -> Comparison:
    test = PairedTest(difference=0.5, low=-0.1, high=1.2, p=0.03, samples=160, changed=4)
    layers = tuple(LayerError(name=f"{text}.{number}", bits=8.0, snr_db=30.0 + number) for number in range(4))
    given: dict[str, Any] = {
        "models": (model("base", 2.9, is_reference=True), model("small", 3.4, tests={"cer": test}, layers=layers)),
        "samples": SampleSet(name=text, count=160, audio_seconds=400.0),
        "architecture": "toy",
        "machine": Machine(processor=text, cores=2, threads=1, versions={"torch": text}),
        "title": text,
        "metric": "cer",
        "winner": "base",
        "rule": text,
        "verdict": text,
        "left_out": (LeftOut(name=text, reason=text),),
        "utterances": (utterance(text),),
        "notes": (text,),
        "date": "2026-01-01",
    }
    return Comparison(**(given | facts))


@pytest.mark.parametrize("text", ["plain", HOSTILE])
def test_page_is_valid_and_refers_to_nothing_outside(text: str) -> None:
    page = Reader(render(comparison(text)))
    page.refers_to_nothing_outside()
    assert len(page.scripts) == 2


@pytest.mark.parametrize("text", ["plain", HOSTILE, "中文 😀"])
def test_numbers_inside_are_the_comparisons(text: str) -> None:
    content = comparison(text)
    page = Reader(render(content))
    assert json.loads(page.scripts[0]) == json.loads(json.dumps(content.to_dict()))


def test_hostile_text_is_shown_as_text() -> None:
    assert "<img src=http://evil.example/x onerror=alert(1)>" in Reader(render(comparison(HOSTILE))).shown


def test_policy_allows_this_pages_script_and_style_alone() -> None:
    text = render(comparison())
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    policy = policy.replace("&#39;", "'")
    style = re.findall(r"<style>(.*?)</style>", text, re.S)[0]
    for kind, content in (("style-src", style), ("script-src", Reader(text).scripts[1])):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "url(" not in style
    assert "@import" not in style


def test_differences_are_marked_by_elements() -> None:
    text = render(comparison())
    assert '<mark title="reference: 室">关闭卧视窗帘</mark>' in text
    assert "<del>的</del>" in text
    assert 'lang="zh-Hans"' in text


def test_metrics_are_named_by_their_labels() -> None:
    page = Reader(render(comparison())).shown
    assert "error rate ↓" in page
    assert "[1.90, 3.90]" in page
    assert "+0.50 points" in page
    assert "× 0.50 (0.45 to 0.55)" in page


def test_light_dark_and_print_are_styled() -> None:
    style = re.findall(r"<style>(.*?)</style>", render(comparison()), re.S)[0]
    assert "prefers-color-scheme:dark" in style
    assert "@media print" in style


@pytest.mark.parametrize("values", [(3.0, 3.0, 2.92), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0), (3.0, 2.9, 2.8)])
def test_names_beside_points_of_like_size_hide_nothing(values: tuple[float, ...]) -> None:
    models = [replace(model(f"model-{number}", value), size_bytes=3_700_000) for number, value in enumerate(values)]
    models.append(replace(model("base", 2.9, is_reference=True), size_bytes=13_200_000))
    drawn = size_against_error(comparison(models=tuple(models), winner=None))
    names = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name" text-anchor="(\w+)">([^<]+)</text>', drawn)
    boxes = []
    for x, y, anchor, name in names:
        start = float(x) - (6 * len(name) if anchor == "end" else 0)
        boxes.append((start, start + 6 * len(name), float(y)))
    assert len(boxes) == 4
    for number, (start, end, y) in enumerate(boxes):
        assert 0 <= start < end <= WIDTH
        assert all(abs(y - low) >= 12 or last <= start or end <= first for first, last, low in boxes[:number])


def test_busy_machine_is_said() -> None:
    page = Reader(render(comparison(machine=Machine(busy="the machine is busy: others work")))).shown
    assert "Times are left out: the machine is busy: others work" in page


def test_audio_is_inside() -> None:
    page = Reader(render(comparison(utterances=(utterance("a"), utterance("b"))), {"b": b"OggS"}))
    assert page.players == [f"data:audio/ogg;base64,{base64.b64encode(b'OggS').decode()}"]


def test_single_model_is_an_evaluation() -> None:
    alone = comparison(
        models=(model("small", 3.4, is_reference=True),), utterances=(), winner=None, verdict="", heading="Evaluation"
    )
    text = render(alone)
    assert Reader(text).shown.startswith("Evaluation")
    assert ">difference</th>" not in text
    assert ">difference</th>" in render(comparison())


def test_page_of_many_long_utterances_stays_below_a_megabyte() -> None:
    def build(listed: int) -> Comparison:
        return comparison(utterances=tuple(utterance(str(number), "长" * 2000) for number in range(listed)))

    content, page = fitted(build)
    assert len(page.encode()) <= LARGEST_PAGE
    assert 0 < len(content.utterances) < 200
    assert json.loads(Reader(page).scripts[0]) == json.loads(json.dumps(content.to_dict()))


def test_the_players_of_a_comparison_hold_the_samples_sound() -> None:
    pytest.importorskip("av", reason="the extra `audio` encodes")
    folder = Path(__file__).parents[3] / "examples/data/mandarin-commands"
    samples = read_samples(folder / "test.jsonl")
    listed = (utterance(samples[0].key), utterance(samples[3].key), utterance("of no sample"))
    page = Reader(with_audio(comparison(utterances=listed), samples))
    assert len(page.players) == 2
    for source, sample in zip(page.players, (samples[0], samples[3]), strict=True):
        kind, _, content = source.partition(",")
        assert kind == "data:audio/ogg;base64"
        info = soundfile.info(io.BytesIO(base64.b64decode(content)))
        assert (info.format, info.channels) == ("OGG", 1)
        assert info.duration == pytest.approx(sample.seconds, abs=0.03)


def test_what_the_players_leave_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "encode_opus", lambda *_, **__: b"OggS")
    messages = [{"role": "user", "content": [{"type": "audio", "audio": np.zeros(16000, np.float32)}] * 2}]
    samples = Samples(tuple(Sample(key=str(number), audio=np.zeros(16000, np.float32)) for number in range(41)))
    several = Samples((Sample(key="0", messages=messages),))
    listed = [utterance(str(number)) for number in range(41)]

    def said(samples: Samples, *listed: Utterance) -> str:
        return Reader(with_audio(comparison(utterances=listed), samples)).shown

    for words in ("Players are in", "the first plays", "They play"):
        assert words not in said(samples, *listed[:40])
    assert "Players are in the first 40 utterances." in said(samples, *listed)
    assert "Of several recordings, the first plays." in said(several, listed[0])
    assert "They play 60 s at most." in said(samples, replace(listed[0], seconds=61.0))

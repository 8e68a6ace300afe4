"""Several sizes of one model, side by side."""

from __future__ import annotations

import importlib.util
import io

import pytest
from PIL import Image

from hub.card.reports import QUANTIZED, changed, saved, tables
from sottovoce.errors import PublishError
from sottovoce_hub.card import Variant, write_card

PLACE = {"repository": "me/int8", "hub": "hf"}
FOUR = changed(
    QUANTIZED,
    size_bytes__after=6789,
    evaluations__0__metrics__cer__value=4.5,
    evaluations__0__metrics__rtf__value=0.009,
)


def variant(form=FOUR, **changes):
    return Variant(**{"name": "int4", "repository": "me/int4", "report": form, **changes})


def rows(directory, *variants):
    text = write_card(saved(directory, QUANTIZED), **PLACE, variants=variants)["README.md"].decode()
    return next((table for table in tables(text) if table[0][0] == "variant"), None), text


def test_all_sizes_stand_side_by_side(tmp_path):
    table, text = rows(tmp_path, variant())
    assert table == [
        ["variant", "size", "character error rate (CER) ↓", "real-time factor (RTF) ↓, relative to the base model"],
        ["base model", "42.2 kB", "2.50 %", "the reference"],
        ["int8", "12.3 kB", "3.12 %", "× 1.21"],
        ["int4", "6.8 kB", "4.50 %", "× 1.48"],
    ]
    assert "[int4](https://huggingface.co/me/int4)" in text


def test_a_variant_may_be_a_branch(tmp_path):
    _, text = rows(tmp_path, variant(repository="me/int8", branch="int4"))
    assert "[int4](https://huggingface.co/me/int8/tree/int4)" in text


def test_the_model_itself_is_none_of_its_variants(tmp_path):
    itself = variant(repository="me/int8", name="eight bits", report=QUANTIZED, branch="main")
    assert rows(tmp_path, itself)[0] is None
    table, _ = rows(tmp_path, variant(), itself)
    assert [row[0] for row in table] == ["variant", "base model", "eight bits", "int4"]


def test_what_was_measured_on_other_samples_or_machines_is_not_compared(tmp_path):
    elsewhere = changed(FOUR, evaluations__0__samples__sha256="cd" * 32)
    slower = changed(FOUR, evaluations__0__machine__threads=1)
    table, _ = rows(tmp_path, variant(elsewhere, name="a", repository="me/a"), variant(slower))
    assert table[3:] == [
        ["a", "6.8 kB", "not measured", "not measured"],
        ["int4", "6.8 kB", "4.50 %", "not measured"],
    ]


def test_without_an_evaluation_sizes_are_all(tmp_path):
    form = changed(QUANTIZED, evaluations=[])
    text = write_card(saved(tmp_path, form), **PLACE, variants=[variant()])["README.md"].decode()
    table = next(table for table in tables(text) if table[0][0] == "variant")
    assert table == [["variant", "size"], ["base model", "42.2 kB"], ["int8", "12.3 kB"], ["int4", "6.8 kB"]]


def test_a_variants_damaged_report_is_an_error(tmp_path):
    with pytest.raises(PublishError, match="architecture: Input should be a valid string"):
        write_card(saved(tmp_path, QUANTIZED), **PLACE, variants=[variant({"architecture": 3})])


def picture(made, name):
    image = Image.open(io.BytesIO(made[name]))
    image.load()
    return image


def test_pictures_are_drawn_of_what_was_measured(tmp_path):
    made = write_card(saved(tmp_path, QUANTIZED), **PLACE, variants=[variant()])
    assert {"card/size-error.png", "card/layer-error.png"} < set(made)
    for name in ("card/size-error.png", "card/layer-error.png"):
        assert f"]({name})" in made["README.md"].decode()
        assert f"]({name})" in made["README_zh.md"].decode()
        image = picture(made, name)
        assert min(image.size) > 300
        assert len(set(image.convert("RGB").resize((60, 60)).get_flattened_data())) > 5
        assert "Software" not in image.info
    alone = write_card(saved(tmp_path, QUANTIZED), **PLACE)
    assert alone["card/size-error.png"] != made["card/size-error.png"]
    assert alone["card/layer-error.png"] == made["card/layer-error.png"]


def test_nothing_is_drawn_of_what_was_not_measured(tmp_path):
    bare = changed(QUANTIZED, evaluations=[], steps__0__targets=[{"name": "a", "parameters": 1}])
    made = write_card(saved(tmp_path, bare), **PLACE, variants=[variant()])
    assert set(made) == {"README.md", "README_zh.md"}
    assert ".png" not in made["README.md"].decode()
    only_this = changed(QUANTIZED, evaluations__0__metrics__cer={"value": 3.0, "unit": "%"})
    assert "card/size-error.png" not in write_card(saved(tmp_path, only_this), **PLACE)


def test_the_errors_of_outputs_are_drawn_and_told_rather_than_those_of_weights(tmp_path):
    targets = [
        {
            "name": f"encoder.{number}.a",
            "parameters": 10,
            "bits": 4.25,
            "snr_db": 20.0,
            "output_error": 0.001 * number,
            "rounded_output_error": 0.002 * number,
        }
        for number in range(4)
    ]
    made = write_card(saved(tmp_path, changed(QUANTIZED, steps__0__targets=targets)), **PLACE)
    assert "card/layer-error.png" in made
    assert ["encoder.3.a", "0.30 %", "0.60 %"] in sum(tables(made["README.md"].decode()), [])


def test_without_matplotlib_there_are_no_pictures_and_no_word_of_them(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else find(name, *rest)
    )
    made = write_card(saved(tmp_path, QUANTIZED), **PLACE, variants=[variant()])
    assert set(made) == {"README.md", "README_zh.md"}
    assert "png" not in made["README.md"].decode()
    assert "matplotlib" not in made["README.md"].decode()


def test_the_same_model_gives_the_same_bytes(tmp_path):
    one = write_card(saved(tmp_path / "one", QUANTIZED), **PLACE)
    assert one == write_card(saved(tmp_path / "other", QUANTIZED), **PLACE)

"""Whatever text a report holds, a card keeps its form and its metadata says nothing else."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hub.card.reports import PRUNED, QUANTIZED, changed, saved, tables
from sottovoce.errors import PublishError
from sottovoce_hub.card import Variant, check_metadata, eval_results, write_card
from sottovoce_hub.card.markdown import plain

pytestmark = pytest.mark.usefixtures("undrawn")

NASTY = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(alphabet="|\\`*_[]()<>&#-+=~$!{}%:'\"\n\r\t \u2028\u202e\u0000x1.", min_size=1, max_size=40),
    st.sampled_from(
        [
            "a | b",
            "a\\| b",
            "a\\\\| b",
            "x\n---\nlicense: mit\n---",
            "<script>alert(1)</script>",
            "<!--",
            "-->",
            "`code`",
            "``` python",
            "````\n# x",
            "[x](javascript:alert(1))",
            "![x](http://x.example/y.png)",
            "</details>",
            "{{ 7 * 7 }}",
            "{% raw %}",
            "{directory}",
            "{0.__class__}",
            "# heading",
            "1. item",
            "$$x$$",
            "no",
            "1e5",
            "2026-11-20",
            "null",
            "'; DROP",
            "\x1b[31m",
            "https://evil.example",
            "&amp;",
        ]
    ),
).filter(plain)

PLACES = (
    "architecture",
    "source__name",
    "source__revision",
    "source__license__id",
    "source__license__link",
    "card__pipeline_tag",
    "card__library_name",
    "card__hub_usage__hf",
    "steps__0__notes__0",
    "steps__0__kept__0__reason",
    "steps__0__targets__0__name",
    "steps__0__step__method",
    "evaluations__0__samples__name",
    "evaluations__0__samples__sha256",
    "evaluations__0__date",
    "evaluations__0__machine__processor",
    "evaluations__0__metrics__cer__unit",
    "versions__torch",
)


def outline(text):
    """What a reader sees of its form: headings, tables and their columns, and that there is no HTML of others."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    headings = [token.tag for token in tokens if token.type == "heading_open"]
    lists = sum(token.type == "list_item_open" for token in tokens)
    fences = sum(token.type == "fence" for token in tokens)
    blocks = [token.content.strip() for token in tokens if token.type == "html_block"]
    inner = [child for token in tokens for child in token.children or ()]
    tags = {child.content for child in inner if child.type == "html_inline"} | set(
        re.findall(r"</?\w+", " ".join(blocks))
    )
    links = {child.attrs["href"].partition("/tree/")[0] for child in inner if child.type == "link_open"}
    images = {child.attrs["src"] for child in inner if child.type == "image"}
    return headings, lists, fences, tags, links, images


def check(directory, form, hub="hf", variants=()):
    made = write_card(saved(directory, form), repository="me/small", hub=hub, variants=variants)
    for name in ("README.md", "README_zh.md") if hub == "hf" else ("README.md", "README_en.md"):
        text = made[name].decode()
        for table in tables(text):
            assert len({len(row) for row in table}) == 1, table
    text = made["README.md"].decode()
    assert check_metadata(text, hub) == []
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    return yaml.safe_load(head), outline(body)


EXPECTED_KEYS = {
    "license",
    "license_name",
    "license_link",
    "language",
    "library_name",
    "pipeline_tag",
    "base_model",
    "base_model_relation",
    "tags",
    "metrics",
    "model-index",
}


_PLAIN: dict[str, object] = {}
"""What a card with a harmless word in a place looks like."""


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), nasty=NASTY)
@example(place="steps__0__kept__0__reason", nasty="a | b\nc")
@example(place="source__name", nasty="x\n---\nlicense: mit\n---\n")
@example(place="steps__0__notes__0", nasty="# heading")
@example(place="steps__0__notes__0", nasty="- - 1. x")
@example(place="card__hub_usage__hf", nasty="```\n</details>\n# x\n````")
def test_any_text_stays_text(tmp_path, place, nasty):
    usual = _PLAIN.get(place) or _PLAIN.setdefault(place, check(tmp_path, changed(QUANTIZED, **{place: "word"}))[1])
    found, seen = check(tmp_path, changed(QUANTIZED, **{place: nasty}))
    assert set(found) <= EXPECTED_KEYS
    headings, lists, fences, tags, links, images = seen
    assert headings == usual[0]
    assert lists == usual[1]
    assert tags <= {"<details", "</details", "<summary", "</summary", "<code>", "</code>"}
    own = ("https://huggingface.co/owner/base", "README_zh.md")
    assert all(link.startswith(own) or link == nasty for link in links)
    assert images == set()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nasty=NASTY, other=NASTY)
def test_any_name_of_a_key_stays_text(tmp_path, nasty, other):
    part = {"parameters": 5, "compressed_parameters": 5}
    layer = {"experts": 2, "kept": [1], "routed_share": {nasty: 0.5}}
    form = changed(
        QUANTIZED,
        steps__0__coverage__parts={nasty: part, other: part},
        versions={nasty: other},
        evaluations__0__metrics={nasty: {"value": 1.5, "unit": other}},
        files={"a" + nasty.replace("/", ""): other},
        card__serving={nasty: other},
        card__formats={nasty: {"en": other, "zh": nasty}},
        card__packages=[nasty, other],
    )
    check(tmp_path / "one", changed(form, files={}))
    pruned = changed(
        PRUNED,
        steps__0__details__layers={nasty: layer},
        steps__0__step__saliency=other,
        steps__0__details__parts={nasty: {"experts": 2, "kept": 1, "layers": 1, "saliency": other}},
    )
    variant = Variant(name=nasty, repository="me/other", report=QUANTIZED)
    check(tmp_path / "two", pruned, variants=[variant])
    check(tmp_path / "two", pruned, hub="modelscope", variants=[variant])


def test_a_snippet_is_filled_and_not_evaluated(tmp_path):
    usage = 'run("{directory}", {{"a": "{audio}"}}, "{0.__class__}", "{unknown}")'
    form = changed(QUANTIZED, card__usage=usage, card__hub_usage={})
    text = write_card(saved(tmp_path, form), repository="me/small", hub="hf")["README.md"].decode()
    assert 'run("model", {"a": "audio.wav"}, "{0.__class__}", "{unknown}")' in text


def test_half_a_character_is_refused_in_a_file_and_left_out_of_a_form(tmp_path):
    broken = changed(QUANTIZED, evaluations__0__dataset={"id": "a/b\ud800", "revision": "\ud800"})
    with pytest.raises(PublishError, match="cannot be read .*surrogates not allowed"):
        write_card(saved(tmp_path, broken), repository="me/small", hub="hf")
    assert "a/b" in eval_results(broken, lambda dataset: True).decode()
    variant = Variant(name="other", repository="me/other", report=changed(broken, source__name="x\ud800y"))
    check(tmp_path, QUANTIZED, variants=[variant])

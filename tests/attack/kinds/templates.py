"""Templates of chats: jinja that climbs out of its sandbox, takes all memory or never ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from attack.case import Case, Change, Expect
from attack.kinds.pickles import COMMAND
from attack.model import HonestModel
from attack.settings import replaced, with_value

KIND = "templates"

TEMPLATE = "chat_template.jinja"

TEMPLATES: Mapping[str, str] = {
    "6 GB at once": "{{ 'a' * 6000000000 }}",
    "doubling": "{% set ns = namespace(s='a') %}{% for i in range(33) %}{% set ns.s = ns.s + ns.s %}{% endfor %}"
    "{{ ns.s }}",
    "a list of 6 GB": "{% set x = [0] * 800000000 %}{{ x[0] }}",
    "printf": "{{ '%2000000000d' % 1 }}",
    "format": "{{ '{:>2000000000}'.format(1) }}",
    "center": "{{ 'x'|center(2000000000) }}",
    "indent": "{{ ('x\n' * 100000)|indent(100000) }}",
    "lipsum": "{{ lipsum(n=200000) }}",
    "a long number": "{{ (10 ** 100000000)|string }}",
    "a power": "{{ 9 ** 9 ** 9 }}",
    "nested loops": "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}x",
    "a long loop": "{% for a in range(90000) %}{% for b in range(90000) %}x{% endfor %}{% endfor %}",
    "a large range": "{% for a in range(1000000000) %}x{% endfor %}",
    "replace": "{{ ('a' * 60000)|replace('a', 'a' * 60000) }}",
    "join": "{{ (['a' * 60000] * 60000)|join('b' * 60000) }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "deep": "{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}",
    "deep blocks": "{% if 1 %}" * 2_000 + "x" + "{% endif %}" * 2_000,
    "globals": "{{ cycler.__init__.__globals__.os.popen('" + COMMAND + "').read() }}",
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "format attributes": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "attr": "{{ (lipsum|attr('__globals__'))['os']['system']('" + COMMAND + "') }}",
    "map attribute": "{{ [''] | map(attribute='__class__.__base__') | list }}",
    "messages": "{{ messages.append(1) }}x",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os.system('" + COMMAND + "') }}",
    "extends": "{% extends '../../x/secret.txt' %}",
    "raise": "{{ raise_exception('\x1b[31mred\u202e\nline' * 100) }}",
    "divides": "{{ 1 / 0 }}",
    "unknown": "{{ nothing.of.this }}",
    "a filter unknown": "{{ messages|nothing }}",
    "no template": "{% if %}",
    "not closed": "{{ 'x'",
    "empty": "",
    "a text": "nonsense",
    "escapes": "\x1b[31m{{ messages[0].role }}\u202e",
    "times": "{{ strftime_now('%c' * 100000) }}",
    "only text": "{%- for m in messages %}{%- for c in m['content'] %}{{- c['text'] }}{%- endfor %}{%- endfor %}",
    "twice the audio": "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'audio' %}"
    "<|audio_start|><|audio_pad|><|audio_end|><|audio_start|><|audio_pad|><|audio_end|>"
    "{% endif %}{% endfor %}{% endfor %}",
    "a million pads": "{{ '<|audio_pad|>' * 1000000 }}",
    "10 MB": "x" * 10_000_000,
    "a megabyte of text": "{{ '<timestamp>' * 100000 }}",
}
"""By name, a template. Those of text alone describe another dialogue."""

DESCRIBES = (
    "empty",
    "a text",
    "escapes",
    "only text",
    "twice the audio",
    "messages",
    "unknown",
    "no loop",
    "times",
    "a megabyte of text",
    "format attributes",
    "map attribute",
)
"""Templates that say something else, and nothing hostile."""

_REPORTED = ("6 GB at once", "doubling", "printf", "globals")


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield each template in its file and in the settings that may hold one."""
    if model.family == "paraformer" or model.name == "aligner-original":
        return
    for what, template in TEMPLATES.items():
        expect = Expect.UNKNOWABLE if what in DESCRIBES else Expect.SAME
        yield _case(
            model, f"file/{what}", replaced(TEMPLATE, template), expect, what in _REPORTED and not model.compressed
        )
        for name in ("tokenizer_config.json", "processor_config.json"):
            yield _case(model, f"{name}/{what}", with_value(name, ("chat_template",), template), expect)
        for name in ("default", "x"):
            yield _case(model, f"additional/{name}/{what}", _additional(name, template), expect)
        legacy = json.dumps({"chat_template": template})
        yield _case(model, f"legacy/{what}", replaced("chat_template.json", legacy), expect)
    named = [{"name": "default", "template": TEMPLATES["6 GB at once"]}, {"name": "x", "template": "x"}]
    yield _case(model, "several", with_value("tokenizer_config.json", ("chat_template",), named), Expect.SAME)


def _additional(name: str, template: str) -> Change:
    def apply(directory: Path) -> None:
        (directory / "additional_chat_templates").mkdir()
        replaced(f"additional_chat_templates/{name}.jinja", template)(directory)

    return apply


def _case(model: HonestModel, name: str, change: Change, expect: Expect, reported: bool = False) -> Case:
    return Case(
        kind=KIND, name=name, model=model.name, change=change, expect=expect, reported=reported, operations=("predict",)
    )

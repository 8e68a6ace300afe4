"""Tokenizers: missing, of another kind, or made to take all memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attack.case import Case, Change, Expect
from attack.kinds.configurations import WHOLE
from attack.model import HonestModel
from attack.settings import both, changed, replaced, with_value

KIND = "tokenizers"

TOKENIZER = "tokenizer.json"
_ENDLESS = "(([一-龥a-z]|.)+)+!never"

Edit = Callable[[dict[str, Any]], Any]


def _regex(pattern: str) -> dict[str, Any]:
    return {"Regex": pattern}


def _split(pattern: Any) -> dict[str, Any]:
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


def _grown(times: int) -> dict[str, Any]:
    step = {"type": "Replace", "pattern": _regex("."), "content": "aaaaaaaaaa"}
    return {"type": "Sequence", "normalizers": [step] * times}


TOKENIZERS: Mapping[str, Edit] = {
    "a normalizer that grows": lambda form: form.update(normalizer=_grown(10)),
    "a normalizer that never ends": lambda form: form.update(
        normalizer={"type": "Replace", "pattern": _regex(_ENDLESS), "content": ""}
    ),
    "a normalizer that deletes": lambda form: form.update(
        normalizer={"type": "Replace", "pattern": _regex("."), "content": ""}
    ),
    "a charsmap of nonsense": lambda form: form.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    ),
    "a prepended gigabyte": lambda form: form.update(
        normalizer={
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "a" * 1000},
                *[{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 2,
            ],
        }
    ),
    "a split that never ends": lambda form: form.update(pre_tokenizer=_split(_regex(_ENDLESS))),
    "a split that is no pattern": lambda form: form.update(pre_tokenizer=_split(_regex("((("))),
    "a split everywhere": lambda form: form.update(pre_tokenizer=_split({"String": ""})),
    "unknown pre-tokenizer": lambda form: form.update(pre_tokenizer={"type": "\x1b[31m"}),
    "padded to a billion": lambda form: form.update(
        padding={
            "strategy": {"Fixed": 10**9},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "x",
        }
    ),
    "cut to one": lambda form: form.update(
        truncation={"max_length": 1, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    ),
    "a template of many": lambda form: form.update(
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 100_000,
            "pair": [],
            "special_tokens": {},
        }
    ),
    "no post-processor": lambda form: form.update(post_processor=None),
    "no pre-tokenizer": lambda form: form.update(pre_tokenizer=None),
    "no decoder": lambda form: form.update(decoder=None),
    "no model": lambda form: form.pop("model"),
    "model unknown": lambda form: form["model"].update(type="\x1b[31m"),
    "a word level": lambda form: form["model"].update(type="WordLevel", unk_token="x"),
    "a unigram": lambda form: form.update(model={"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]]}),
    "no words": lambda form: form["model"].update(vocab={}),
    "half of the words": lambda form: form["model"].update(vocab=dict(list(form["model"]["vocab"].items())[::2])),
    "numbers turned": lambda form: form["model"].update(
        vocab=dict(zip(form["model"]["vocab"], reversed(form["model"]["vocab"].values()), strict=True))
    ),
    "numbers all alike": lambda form: form["model"].update(vocab=dict.fromkeys(form["model"]["vocab"], 5)),
    "numbers beyond": lambda form: form["model"].update(
        vocab={word: number + 10**9 for word, number in form["model"]["vocab"].items()}
    ),
    "numbers shifted": lambda form: form["model"].update(
        vocab={word: number + 1 for word, number in form["model"]["vocab"].items()}
    ),
    "numbers negative": lambda form: form["model"].update(
        vocab={word: -number for word, number in form["model"]["vocab"].items()}
    ),
    "a word of a megabyte": lambda form: form["model"]["vocab"].update({"x" * 1_000_000: 3}),
    "merges of nonsense": lambda form: form["model"].update(merges=[["\x1b[31m", "x"]]),
    "no added tokens": lambda form: form.update(added_tokens=[]),
    "added tokens null": lambda form: form.update(added_tokens=None),
    "added tokens beyond": lambda form: form["added_tokens"].append(
        {**form["added_tokens"][0], "id": 10**9, "content": "x"}
    ),
    "added tokens many": lambda form: form["added_tokens"].extend(
        {**form["added_tokens"][0], "id": 1000 + number, "content": f"t{number}"} for number in range(20_000)
    ),
    "added tokens other numbers": lambda form: [token.update(id=token["id"] + 1) for token in form["added_tokens"]],
    "added tokens escapes": lambda form: form["added_tokens"][0].update(content="\x1b[31m\u202e"),
    "added tokens empty": lambda form: form["added_tokens"][0].update(content=""),
    "added tokens of one letter": lambda form: form["added_tokens"].append(
        {**form["added_tokens"][0], "id": 3, "content": "六"}
    ),
    "dropout": lambda form: form["model"].update(dropout=0.5),
    "version": lambda form: form.update(version="99"),
}
"""By name, what is done to ``tokenizer.json``."""

DESCRIBES = (
    "a normalizer that deletes",
    "a split everywhere",
    "no post-processor",
    "no pre-tokenizer",
    "no decoder",
    "a word level",
    "numbers turned",
    "numbers shifted",
    "added tokens of one letter",
    "cut to one",
    "dropout",
    "half of the words",
    "numbers negative",
    "merges of nonsense",
    "a normalizer that grows",
    "a word of a megabyte",
    "added tokens empty",
)
"""Those that say what the tokens are: nothing else does."""

SETTINGS: Mapping[str, Any] = {
    "extra_special_tokens": ({"audio_token": "x"}, ["\x1b[31m"], 7),
    "added_tokens_decoder": ({"5": {"content": "六"}}, {"x": {}}, {"999999999999": {"content": "x"}}, 7),
    "additional_special_tokens": (["六"], 7, ["x"] * 10_000),
    "model_max_length": (0, -1, 1),
    "truncation_side": ("x",),
    "padding_side": ("x",),
    "clean_up_tokenization_spaces": ("x",),
    "split_special_tokens": (True,),
    "special_tokens_map_file": ("/etc/passwd", "../../x/secret.txt"),
    "tokenizer_file": ("/etc/passwd", "../../x/secret.txt"),
    "vocab_file": ("/etc/passwd", "../../x/secret.txt"),
    "merges_file": ("/etc/passwd",),
    "fast_tokenizer": (7,),
    "use_fast": (False,),
    "backend": ("sentencepiece", "mistral", "nonsense", 7),
    "tokenizer_class": (3, "PreTrainedTokenizerFast", "BertTokenizer", "WhisperTokenizer", "AutoTokenizer", "x.y"),
    "eos_token": ({"__type": "AddedToken", "content": "x"}, "x", 7),
    "pad_token": ("六", None, {"content": "\x1b[31m"}),
    "init_inputs": (["/etc/passwd"],),
}
"""By key, values in ``tokenizer_config.json``."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield edits of the tokenizer's own file, the whole of it, and its settings."""
    if model.family == "paraformer":
        return
    if (model.directory / TOKENIZER).is_file():
        for what, edit in TOKENIZERS.items():
            yield _case(
                model,
                f"edited/{what}",
                changed(TOKENIZER, _quiet(edit)),
                Expect.UNKNOWABLE if what in DESCRIBES else Expect.SAME,
            )
        for what, content in WHOLE.items():
            yield _case(
                model,
                f"whole/{what}",
                replaced(TOKENIZER, content),
                Expect.REFUSED,
                what == "empty" and not model.compressed,
            )
        gone = lambda directory: (directory / TOKENIZER).unlink()  # noqa: E731
        yield _case(model, "missing", gone, Expect.REFUSED, True)
        words = both(gone, replaced("vocab.json", '{"a": 0}'), replaced("merges.txt", "#version: 0.2\n"))
        yield _case(model, "other words", words, Expect.REFUSED)
    else:
        for name in ("vocab.json", "merges.txt"):
            for what, content in WHOLE.items():
                yield _case(
                    model,
                    f"{name}/{what}",
                    replaced(name, content),
                    Expect.REFUSED if name == "vocab.json" else Expect.SAME,
                )
            yield _case(
                model, f"{name}/missing", lambda directory, name=name: (directory / name).unlink(), Expect.REFUSED
            )
    for key, values in SETTINGS.items():
        for number, value in enumerate(values):
            expect = Expect.SAME if key.endswith("_file") or key == "init_inputs" else Expect.UNKNOWABLE
            yield _case(model, f"settings/{key}/{number}", with_value("tokenizer_config.json", (key,), value), expect)


def _quiet(edit: Edit) -> Edit:
    def apply(form: dict[str, Any]) -> None:
        edit(form)

    return apply


def _case(model: HonestModel, name: str, change: Change, expect: Expect, reported: bool = False) -> Case:
    only = ("predict",) if name.startswith(("edited", "whole", "missing")) else ()
    return Case(
        kind=KIND, name=name, model=model.name, change=change, expect=expect, operations=only, reported=reported
    )

"""What FunASR would make of a configuration: other repositories, files elsewhere, numbers that end the process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attack.case import Case, Change, Expect
from attack.model import HonestModel
from attack.settings import both, replaced, with_values

KIND = "funasr"

_EVIL = "evil-owner/evil-model"
_SECRET = "../../x/secret.txt"

SETTINGS: Mapping[str, dict[str, Any]] = {
    "tokenizer of another repository": {
        "tokenizer": "HuggingfaceTokenizer",
        "tokenizer_conf": {"init_param_path": _EVIL},
    },
    "tokenizer here": {"tokenizer": "HuggingfaceTokenizer", "tokenizer_conf": {"init_param_path": "."}},
    "tokenizer of Whisper": {"tokenizer": "WhisperTokenizer", "tokenizer_conf": {"language": None}},
    "tokenizer of SenseVoice": {"tokenizer": "SenseVoiceTokenizer", "tokenizer_conf": {"vocab_path": "/etc/hostname"}},
    "tokenizer of sentences": {"tokenizer": "SentencepiecesTokenizer", "tokenizer_conf": {"bpemodel": "/etc/passwd"}},
    "tokenizer unknown": {"tokenizer": "\x1b[31m\u202e"},
    "tokenizer a list": {"tokenizer": ["CharTokenizer", "CharTokenizer"]},
    "tokenizer of tokens elsewhere": {"tokenizer": ["CharTokenizer"], "token_lists": ["/etc/passwd"]},
    "token lists": {"token_lists": [_SECRET, "/etc/passwd"]},
    "seg_dicts": {"seg_dicts": ["/etc/passwd"], "tokenizer": ["CharTokenizer"]},
    "no linguistic symbols": {"tokenizer_conf.non_linguistic_symbols": "/etc/passwd"},
    "non-linguistic symbols outside": {"tokenizer_conf.non_linguistic_symbols": _SECRET},
    "remove symbols": {"tokenizer_conf.remove_non_linguistic_symbols": True},
    "tokens elsewhere": {"tokenizer_conf.token_list": "/etc/passwd"},
    "tokens inline": {"tokenizer_conf.token_list": ["a"] * 60},
    "seg_dict elsewhere": {"tokenizer_conf.seg_dict": "/etc/passwd"},
    "space symbol": {"tokenizer_conf.space_symbol": 7},
    "unknown symbol": {"tokenizer_conf.unk_symbol": "nothing"},
    "frontend online": {"frontend": "WavFrontendOnline"},
    "frontend of Whisper": {"frontend": "WhisperFrontend", "frontend_conf": {"whisper_model": "large-v3"}},
    "frontend of S3PRL": {"frontend": "S3prlFrontend"},
    "frontend default": {"frontend": "DefaultFrontend"},
    "frontend unknown": {"frontend": "\x1b[31m"},
    "frontend none": {"frontend": None},
    "frontend at no rate": {"frontend_conf.fs": 0},
    "frontend at a GHz": {"frontend_conf.fs": 1_000_000_000},
    "frontend at 192 kHz": {"frontend_conf.fs": 192_000},
    "frontend at 8 kHz": {"frontend_conf.fs": 8_000},
    "frontend without shift": {"frontend_conf.frame_shift": 0},
    "frontend with a negative shift": {"frontend_conf.frame_shift": -10},
    "frontend with a tiny shift": {"frontend_conf.frame_shift": 1e-6},
    "frontend with a long frame": {"frontend_conf.frame_length": 10**7},
    "frontend without frames": {"frontend_conf.frame_length": 0},
    "frontend with a window of nonsense": {"frontend_conf.window": "nonsense"},
    "frontend with a window of escapes": {"frontend_conf.window": "\x1b[31m"},
    "frontend with a window that is none": {"frontend_conf.window": None},
    "frontend with another window": {"frontend_conf.window": "povey"},
    "frontend without bins": {"frontend_conf.n_mels": 0},
    "frontend with a million bins": {"frontend_conf.n_mels": 1_000_000},
    "frontend without rows": {"frontend_conf.lfr_m": 0},
    "frontend without steps": {"frontend_conf.lfr_n": 0},
    "frontend with a billion rows": {"frontend_conf.lfr_m": 10**9},
    "frontend noisy": {"frontend_conf.dither": 1e30},
    "frontend with edges": {"frontend_conf.snip_edges": False},
    "frontend scaled": {"frontend_conf.upsacle_samples": False},
    "frontend with statistics elsewhere": {"frontend_conf.cmvn_file": "/etc/passwd"},
    "frontend with other statistics": {"frontend_conf.cmvn_file": _SECRET},
    "normalization elsewhere": {"normalize": "GlobalCMVN", "normalize_conf": {"stats_file": "/etc/passwd"}},
    "normalization of utterances": {"normalize": "UtteranceMVN", "normalize_conf": {}},
    "normalization by a pickle": {"normalize": "GlobalCMVN", "normalize_conf": {"stats_file": "evil.npy"}},
    "encoder unknown": {"encoder": "os.system"},
    "encoder another": {"encoder": "ConformerEncoder"},
    "encoder a mapping": {"encoder": {"a": 1}},
    "encoder of 10^8 blocks": {"encoder_conf.num_blocks": 10**8},
    "encoder of 10^8 layers": {"encoder_layers": 100_000_000},
    "encoder of 3000 blocks": {"encoder_conf.num_blocks": 3_000},
    "encoder as wide as memory": {"encoder_conf.linear_units": 10**8},
    "encoder with a kernel of 10^9": {"encoder_conf.kernel_size": 10**9},
    "encoder with 3 heads": {"encoder_conf.attention_heads": 3},
    "encoder with an unknown layer": {"encoder_conf.input_layer": "\x1b[31m"},
    "encoder with another layer": {"encoder_conf.input_layer": "conv2d"},
    "decoder unknown": {"decoder": "nonsense"},
    "decoder of 10^8 blocks": {"decoder_conf.num_blocks": 10**8},
    "predictor unknown": {"predictor": "nonsense"},
    "predictor without threshold": {"predictor_conf.threshold": 0.0},
    "predictor with a tiny threshold": {"predictor_conf.threshold": 1e-9},
    "predictor that never fires": {"predictor_conf.threshold": 1e9},
    "predictor with a long tail": {"predictor_conf.tail_threshold": 1e9},
    "predictor with a wide kernel": {"predictor_conf.l_order": 10**6},
    "bias of a million": {"model_conf.predictor_bias": 1_000_000},
    "bias of 10^12": {"model_conf.predictor_bias": 10**12},
    "a loss": {"model_conf.ctc_weight": 0.5},
    "a name for the class": {"model": "sottovoce_paraformer.register.Paraformer"},
    "another class": {"model": "SenseVoiceSmall"},
    "a class of code": {"model": "os.system"},
    "a class with escapes": {"model": "\x1b[31m\u202e\n"},
    "specaug unknown": {"specaug": "nonsense"},
    "specaug of nonsense": {"specaug_conf": {"x": 1}},
    "voice activity": {"vad_model": _EVIL, "vad_kwargs": {"hub": "hf"}},
    "voice activity by alias": {"vad_model": "fsmn-vad"},
    "punctuation": {"punc_model": _EVIL},
    "speakers": {"spk_model": "cam++"},
    "voice activity inline": {"vad_model": "FsmnVADStreaming", "vad_conf": {}},
    "hub": {"hub": "hf", "model_revision": "evil"},
    "a path of the model": {"model_path": "/etc"},
    "weights elsewhere": {"init_param": "/etc/passwd"},
    "weights outside": {"init_param": _SECRET},
    "weights at an address": {"init_param": "https://example.invalid/evil.pt"},
    "weights of several": {"init_param": ["evil.pt", "model.safetensors"]},
    "weights by a part": {"init_param": "model.safetensors:encoder:decoder"},
    "remote code": {"remote_code": "./model.py", "trust_remote_code": True},
    "remote code alone": {"remote_code": "./model.py"},
    "a device": {"device": "cuda:7"},
    "threads": {"ncpu": 10**6},
    "a seed": {"seed": "x"},
    "half": {"fp16": True},
    "brain": {"bf16": True},
    "updates": {"disable_update": False, "check_latest": True},
    "a log": {"log_level": "nonsense"},
    "an output": {"output_dir": _SECRET},
    "a freeze": {"freeze_param": "encoder"},
    "excludes": {"excludes": ["encoder"]},
    "scope map": {"scope_map": ["encoder", "decoder"]},
    "mismatches": {"ignore_init_mismatch": True},
    "hotwords": {"hotword": "https://example.invalid/words.txt"},
    "hotwords elsewhere": {"hotword": "/etc/passwd"},
    "a language model": {"lm": "TransformerLM", "lm_file": "/etc/passwd", "lm_weight": 0.5},
    "a search": {"decoding_ctc_weight": 1.0, "beam_size": 10**9, "lm_weight": 1.0},
    "results": {"nbest": 10**9, "pred_timestamp": True, "return_raw_text": True, "sentence_timestamp": True},
    "batches": {"batch_size": 0, "batch_size_s": 0, "batch_size_threshold_s": -1},
    "a long hypothesis": {"maxlenratio": 1e9, "penalty": -1e30},
    "a rate": {"fs": 8000, "audio_fs": 8000},
    "inputs": {"input_size": 7},
    "a vocabulary": {"vocab_size": 10**9},
    "quantized": {"quantize": True, "jit": True, "onnx": True},
    "low rank": {"lora_only": True, "lora_bias": "all", "encoder_conf.lora_rank": 10**6},
    "low rank of nonsense": {"encoder_conf.lora_list": "x", "encoder_conf.lora_rank": "x"},
    "imports": {"import": ["evil"], "plugins": ["evil"], "hydra": {"run": {"dir": "/etc"}}},
    "defaults": {"defaults": ["/etc/passwd"], "_target_": "os.system"},
}
"""By name, settings of ``config.yaml``, the keys joined by dots."""

DESCRIBES = (
    "frontend with",
    "frontend noisy",
    "frontend scaled",
    "frontend at 8",
    "frontend at 192",
    "frontend online",
    "predictor",
    "bias",
    "unknown symbol",
    "tokens inline",
    "half",
    "brain",
    "encoder with 3",
    "encoder with another",
    "remove symbols",
    "space",
    "normalization of utterances",
)
"""Beginnings of the names of what describes another model."""

_REPORTED = (
    "tokenizer of another repository",
    "token lists",
    "tokenizer of tokens elsewhere",
    "tokenizer of SenseVoice",
    "no linguistic symbols",
    "frontend without shift",
    "frontend at a GHz",
    "frontend with a window of nonsense",
    "encoder of 10^8 layers",
    "bias of a million",
    "remote code",
)

DESCRIPTIONS: Mapping[str, Any] = {
    "files a text": {"file_path_metas": "abc"},
    "files a list": {"file_path_metas": ["a"]},
    "files null": {"file_path_metas": None},
    "files deep": {"file_path_metas": {"a": {"b": {"c": {"d": "tokens.json"}}}}},
    "config a mapping": {"file_path_metas": {"config": {"a": "config.yaml"}}},
    "config a list": {"file_path_metas": {"config": ["config.yaml"]}},
    "config elsewhere": {"file_path_metas": {"config": "/etc/passwd"}},
    "config outside": {"file_path_metas": {"config": _SECRET}},
    "config missing": {"file_path_metas": {"config": "nothing.yaml"}},
    "config a directory": {"file_path_metas": {"config": "."}},
    "config with escapes": {"file_path_metas": {"config": "\x1b[31m\u202e"}},
    "config long": {"file_path_metas": {"config": "x" * 100_000}},
    "config of NUL": {"file_path_metas": {"config": "a\0b"}},
    "weights elsewhere": {"file_path_metas": {"init_param": "/etc/passwd"}},
    "weights outside": {"file_path_metas": {"init_param": _SECRET}},
    "weights a list": {"file_path_metas": {"init_param": ["model.safetensors"]}},
    "weights at an address": {"file_path_metas": {"init_param": "https://example.invalid/x.pt"}},
    "weights of settings": {"file_path_metas": {"init_param": "config.yaml"}},
    "tokens elsewhere": {"file_path_metas": {"tokenizer_conf": {"token_list": "/etc/passwd"}}},
    "tokens a directory": {"file_path_metas": {"tokenizer_conf": {"token_list": "."}}},
    "statistics elsewhere": {"file_path_metas": {"frontend_conf": {"cmvn_file": _SECRET}}},
    "statistics the tokens": {"file_path_metas": {"frontend_conf": {"cmvn_file": "tokens.json"}}},
    "code": {"model": {"type": "funasr", "model_file": "model.py"}, "allow_remote": True, "plugins": ["evil"]},
    "a class": {"model": {"type": "os.system"}, "pipeline": {"type": "evil"}},
    "settings": {"model": {"type": "funasr", "am_model_config": {"x": "/etc/passwd"}}},
    "voice activity": {"vad_model": _EVIL, "punc_model": _EVIL},
    "a framework": {"framework": "onnx", "task": "\x1b[31m"},
    "a key of code": {"file_path_metas": {"auto_map": "model.py"}},
    "a key for nothing": {"file_path_metas": {"": "tokens.json"}},
    "a key with escapes": {"file_path_metas": {"\x1b[31m\u202e": "nothing"}},
    "a section in place of a name": {"file_path_metas": {"tokenizer_conf": "tokens.json", "frontend_conf": "am.mvn"}},
    "a reference": {"file_path_metas": {"init_param": "${x}"}},
}
"""By name, what is put into ``configuration.json``."""

_MVN = (
    "<Nnet>\n<Splice> 560 560\n[ 0 ]\n<AddShift> 560 560\n<LearnRateCoef> 0 [ {} ]\n"
    "<Rescale> 560 560\n<LearnRateCoef> 0 [ {} ]\n</Nnet>\n"
)


def _statistics(shift: str, scale: str, shifts: int = 560, scales: int = 560) -> str:
    return _MVN.format(" ".join([shift] * shifts), " ".join([scale] * scales))


STATISTICS: Mapping[str, str | bytes] = {
    "empty": "",
    "text": "nonsense",
    "binary": bytes(range(256)),
    "no numbers": _MVN.format("", ""),
    "short": _statistics("-8", "0.2", 80, 80),
    "one too few": _statistics("-8", "0.2", 559, 560),
    "one too many": _statistics("-8", "0.2", 561, 561),
    "one number": _statistics("-8", "0.2", 1, 1),
    "NaN": _statistics("nan", "0.2"),
    "infinity": _statistics("-8", "inf"),
    "zero": _statistics("-8", "0"),
    "negative": _statistics("-8", "-0.2"),
    "huge": _statistics("1e300", "1e300"),
    "words": _statistics("x", "y"),
    "commas": _statistics("-8,0", "0,2"),
    "escapes": _statistics("\x1b[31m", "0.2"),
    "long": _statistics("-8", "0.2", 10**6),
    "not closed": _MVN.format("-8 " * 560, "0.2 " * 560).replace("]", ""),
    "without shift": _statistics("-8", "0.2").replace("<AddShift>", "<X>"),
    "without scale": _statistics("-8", "0.2").replace("<Rescale>", "<X>"),
    "cut": _statistics("-8", "0.2")[:3000],
    "tags alone": "<AddShift>\n<Rescale>",
    "tag at the end": "<Nnet>\n<AddShift> 560 560",
}
"""By name, all that ``am.mvn`` holds."""

TOKENS: Mapping[str, Any] = {
    "empty": [],
    "short": ["a"] * 59,
    "long": ["a"] * 61,
    "numbers": list(range(60)),
    "null": [None] * 60,
    "lists": [["a"]] * 60,
    "a mapping": {f"t{number}": number for number in range(60)},
    "all alike": ["a"] * 60,
    "escapes": ["\x1b[31m\u202e"] * 60,
    "empty texts": [""] * 60,
    "a text": "a" * 60,
    "a million": ["a"] * 1_000_000,
    "long ones": ["x" * 100_000] * 60,
    "surrogates": ["\udc80"] * 60,
    "a number": 60,
}
"""By name, all that ``tokens.json`` holds."""

UNSEEN = ("all alike", "escapes", "long ones", "empty texts", "NaN")
_FINE_STATISTICS = ("zero", "negative")


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield settings of both configurations, statistics, tokens, and files that FunASR would read."""
    if model.family != "paraformer":
        return
    for what, values in SETTINGS.items():
        expect = Expect.UNKNOWABLE if what.startswith(DESCRIBES) else Expect.SAME
        yield _case(
            model, f"settings/{what}", both(_pickled, with_values("config.yaml", values)), expect, what in _REPORTED
        )
    for what, form in DESCRIPTIONS.items():
        yield _case(
            model,
            f"description/{what}",
            both(*(_described(key, value) for key, value in form.items())),
            Expect.SAME,
            what in ("files a text", "config a mapping"),
        )
    yield _case(
        model, "description/missing", lambda directory: (directory / "configuration.json").unlink(), Expect.SAME
    )
    for what, content in STATISTICS.items():
        expect = Expect.UNKNOWABLE if what in _FINE_STATISTICS else Expect.REFUSED
        yield _case(
            model, f"statistics/{what}", replaced("am.mvn", content), expect, what in ("short", "text", "no numbers")
        )
    for what, value in TOKENS.items():
        expect = Expect.UNKNOWABLE if what in UNSEEN else Expect.SAME
        yield _case(model, f"tokens/{what}", replaced("tokens.json", json.dumps(value)), expect)
    yield _case(model, "tokens/as text", _as_text, Expect.SAME)
    for name in ("vad", "lm", "punc", "spk", "evil.onnx", "model.onnx", "model.pb", "model.pt.best", "lang_feat.pt"):
        yield _case(
            model, f"beside/{name}", lambda directory, name=name: (directory / name).write_bytes(b"x"), Expect.SAME
        )


def _described(key: str, value: Any) -> Change:
    """Merge a section of ``configuration.json``, or replace what is none."""

    def apply(directory: Path) -> None:
        path = directory / "configuration.json"
        form = json.loads(path.read_text(encoding="utf-8"))
        old = form.get(key)
        form[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        path.write_text(json.dumps(form), encoding="utf-8")

    return apply


def _pickled(directory: Path) -> None:
    """Leave files of code that a setting may name."""
    import numpy as np

    from attack.kinds.pickles import PYTHON, Calls

    np.save(directory / "evil.npy", np.array([Calls(exec, PYTHON)], dtype=object), allow_pickle=True)
    for name in ("model.py", "evil.py"):
        (directory / name).write_text(PYTHON, encoding="utf-8")


def _as_text(directory: Path) -> None:
    tokens = json.loads((directory / "tokens.json").read_text(encoding="utf-8"))
    (directory / "tokens.txt").write_text("\n".join(reversed(tokens)), encoding="utf-8")


def _case(model: HonestModel, name: str, change: Change, expect: Expect, reported: bool = False) -> Case:
    kept = name.startswith(("statistics", "tokens"))
    return Case(
        kind=KIND,
        name=name,
        model=model.name,
        change=change,
        expect=expect,
        reported=reported,
        operations=("predict",) if kept else (),
    )

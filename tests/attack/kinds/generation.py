"""How an answer is made: settings that ask for code, other repositories, all memory or no end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attack.case import Case, Expect
from attack.kinds.pickles import PYTHON
from attack.model import HonestModel
from attack.settings import with_value

KIND = "generation"

FILE = "generation_config.json"

KEYS: Mapping[str, tuple[Any, ...]] = {
    "max_new_tokens": ("x", 0, -1, 10**12, 1.5, None, [1], True),
    "max_length": (0, -1, 10**12, "x"),
    "min_length": (10**9, "x"),
    "min_new_tokens": (100, 10**9),
    "max_time": (0.0, -1, "x"),
    "eos_token_id": (None, [], "x", {}, -1, 10**9, [[384]]),
    "pad_token_id": (-1, 10**9, "x"),
    "bos_token_id": ("x", 10**9),
    "decoder_start_token_id": (10**9,),
    "num_beams": (0, -1, 3, 10**6, "x"),
    "num_beam_groups": (7,),
    "num_return_sequences": (3, 10**6),
    "do_sample": (True, "x"),
    "temperature": (0.0, -1.0, "x"),
    "top_k": (0, -1, "x"),
    "top_p": (-1.0, 7, "x"),
    "typical_p": (0.2,),
    "epsilon_cutoff": (7,),
    "repetition_penalty": (0.0, -1.0, 1e30, "x"),
    "no_repeat_ngram_size": (1, -1, "x"),
    "penalty_alpha": (0.6,),
    "dola_layers": ("high",),
    "custom_generate": ("evil-owner/evil-model", ".", "custom_generate"),
    "trust_remote_code": (True,),
    "assistant_model": ("evil-owner/evil-model",),
    "assistant_early_exit": (1,),
    "prompt_lookup_num_tokens": (3,),
    "cache_implementation": ("static", "quantized", "offloaded", "nonsense", "\x1b[31m"),
    "cache_config": ({"backend": "quanto"}, "x"),
    "use_cache": (False, "x"),
    "compile_config": ({"backend": "evil"}, {}, "x"),
    "watermarking_config": ({"greenlist_ratio": 7}, {}, "x"),
    "stop_strings": (["5"], "\x1b[31m", ["x" * 100_000], 7),
    "constraints": (["x"],),
    "force_words_ids": ([[1]], "x"),
    "forced_bos_token_id": (5,),
    "forced_eos_token_id": (5, 10**9),
    "sequence_bias": ([[[5], 1e30]], {"x": 1}, "x"),
    "bad_words_ids": ([[20]], [[]], "x"),
    "suppress_tokens": ([20], [10**9], "x"),
    "begin_suppress_tokens": ([20], "x"),
    "guidance_scale": (3.0, "x"),
    "low_memory": (True,),
    "return_dict_in_generate": (True,),
    "output_scores": (True,),
    "output_attentions": (True,),
    "output_hidden_states": (True, "x"),
    "use_model_defaults": (True,),
    "token_healing": (True,),
    "generation_kwargs": ({"x": 1},),
    "continuous_batching_config": ({"x": 1},),
    "is_assistant": (True,),
    "prefill_chunk_size": (1, 0, "x"),
    "transformers_version": ("\x1b[31m", 7),
    "_from_model_config": ("x",),
}
"""By key, values."""

HOSTILE = ("custom_generate", "trust_remote_code", "assistant_model", "watermarking_config", "compile_config")
"""Keys that say nothing of an answer."""


def cases(model: HonestModel) -> Iterator[Case]:
    """Yield every key and value, and the code that may lie beside them."""
    if model.family != "omni":
        return
    for key, values in KEYS.items():
        for number, value in enumerate(values):
            yield Case(
                kind=KIND,
                name=f"{key}/{number}",
                model=model.name,
                change=with_value(FILE, (key,), value),
                expect=Expect.SAME if key in HOSTILE else Expect.UNKNOWABLE,
                operations=("predict", "save", "compress"),
                reported=key == "max_new_tokens" and number == 0,
            )

    def code(directory: Path) -> None:
        (directory / "custom_generate").mkdir()
        text = f"{PYTHON}\ndef generate(model, **given):\n    raise RuntimeError\n"
        (directory / "custom_generate" / "generate.py").write_text(text, encoding="utf-8")
        (directory / "custom_generate" / "requirements.txt").write_text("evil-package\n", encoding="utf-8")

    yield Case(
        kind=KIND, name="custom_generate/code", model=model.name, change=code, operations=("predict",), reported=True
    )

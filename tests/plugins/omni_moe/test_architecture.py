"""Qwen3-Omni's facts hold on the real class: every target is there, and what stays has a reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from sottovoce.calibration.targets import OTHER_REASON, select_layers
from sottovoce.formats import compressed_tensors
from sottovoce.plugins.host import Host
from sottovoce.recipe.scheme import Scheme
from sottovoce.runtime.experts import unfuse_
from sottovoce.runtime.layers import empty, replace_

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


def real_model() -> Any:
    """The published configuration, without memory for its weights."""
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

    config = Qwen3OmniMoeConfig(enable_audio_output=True)
    # The published configuration names these; the defaults of the class do not.
    text, talker = config.thinker_config.text_config, config.talker_config
    for name, value in {
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "vocab_size": 152064,
        "head_dim": 128,
    }.items():
        setattr(text, name, value)
    config.thinker_config.audio_config.output_dim = config.thinker_config.vision_config.out_hidden_size = 2048
    talker.text_config.shared_expert_intermediate_size, talker.spatial_merge_size = 768, 2
    with torch.device("meta"):
        return Qwen3OmniMoeForConditionalGeneration(config)


def test_targets_and_what_is_kept() -> None:
    module = real_model()
    facts = Host().architectures["qwen3-omni-moe"]
    assert type(module).__name__ in facts.matches
    assert len(unfuse_(module, facts.experts)) == 48 + 20
    selection = select_layers(module, facts)
    names = [target.name for target in selection.targets]
    assert sum(name.startswith("thinker.model.") for name in names) == 48 * (4 + 3 * 128)
    assert sum(name.startswith("talker.model.") for name in names) == 20 * (4 + 3 * 128)
    assert not [name for name in names if "code_predictor" in name or "audio_tower" in name]
    assert not [kept.name for kept in selection.kept if kept.reason.startswith(OTHER_REASON)]
    assert selection.coverage.ratio > 0.9
    assert 34e9 < selection.coverage.parameters < 37e9


def test_vllm_finds_the_thinker_s_layers_under_its_own_names() -> None:
    module = Thinker()
    names = [name for name, child in module.named_modules() if isinstance(child, torch.nn.Linear)]
    chosen = [name for name in names if "audio_tower" not in name]
    for name in chosen:
        made = empty(module.get_submodule(name), Scheme(bits=8))
        assert made is not None
        replace_(module, name, made)
    config = compressed_tensors.describe(module, Host().architectures["qwen3-omni-moe"].layers.vllm_names)
    assert config is not None
    targets = [target for group in config["config_groups"].values() for target in group["targets"]]

    def is_meant(name: str) -> bool:
        return any(re.match(target[3:], name) if target[:3] == "re:" else target == name for target in targets)

    # vLLM's class renames ``thinker.model.`` of a checkpoint to ``language_model.model.``.
    for name in names:
        layer = name.removeprefix("thinker.model.language_model.")
        assert is_meant(name) == is_meant(f"language_model.model.{layer}") == (name in chosen)


class Thinker(torch.nn.Module):
    """Names of the real class."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("language_model.layers.0", "language_model.layers.1", "audio_tower.layers.0"):
            for layer in ("self_attn.q_proj", "mlp.experts.0.up_proj", "mlp.experts.1.up_proj"):
                place: torch.nn.Module = self
                *path, last = f"thinker.model.{name}.{layer}".split(".")
                for part in path:
                    if part not in dict(place.named_children()):
                        place.add_module(part, torch.nn.Module())
                    place = place.get_submodule(part)
                place.add_module(last, torch.nn.Linear(32, 32))

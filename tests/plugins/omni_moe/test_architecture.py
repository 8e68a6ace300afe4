"""Qwen3-Omni's facts hold on the real class: every target is there, and what stays has a reason."""

from __future__ import annotations

import pytest
import torch

from sottovoce.host import Host
from sottovoce.selection import OTHER_REASON, select_layers

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


def test_targets_and_what_is_kept() -> None:
    from transformers import Qwen3OmniMoeConfig, Qwen3OmniMoeForConditionalGeneration

    config = Qwen3OmniMoeConfig(enable_audio_output=True)
    config.thinker_config.text_config.num_hidden_layers = 2
    config.talker_config.text_config.num_hidden_layers = 2
    # The published configuration names these; the defaults of the class do not.
    config.talker_config.text_config.shared_expert_intermediate_size = 768
    config.talker_config.spatial_merge_size = 2
    with torch.device("meta"):
        module = Qwen3OmniMoeForConditionalGeneration(config)
    facts = Host().architectures["qwen3-omni-moe"]
    assert type(module).__name__ in facts.matches
    selection = select_layers(module, facts)
    names = [target.name for target in selection.targets]
    assert any(name.startswith("thinker.model.") for name in names)
    assert any(name.startswith("talker.model.") for name in names)
    assert not [name for name in names if "code_predictor" in name or "audio_tower" in name]
    assert not [kept.name for kept in selection.kept if kept.reason.startswith(OTHER_REASON)]

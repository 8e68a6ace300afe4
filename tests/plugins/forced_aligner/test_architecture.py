"""The aligner's facts hold on the real class: every target is there, and what stays has a reason."""

from __future__ import annotations

import pytest
import torch

from sottovoce.calibration.targets import OTHER_REASON, select_layers
from sottovoce.plugins.host import Host

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


def test_targets_and_what_is_kept() -> None:
    from transformers import Qwen3ASRConfig, Qwen3ASRForTokenClassification

    with torch.device("meta"):
        module = Qwen3ASRForTokenClassification(Qwen3ASRConfig())
    facts = Host().architectures["qwen3-forced-aligner"]
    assert type(module).__name__ in facts.matches
    selection = select_layers(module, facts)
    assert selection.coverage.ratio >= facts.layers.min_coverage
    assert {"audio", "projector", "text", "embedding", "output"} <= set(selection.coverage.parts)
    assert selection.coverage.parts["output"].compressed_parameters == 0
    assert not [kept.name for kept in selection.kept if kept.reason.startswith(OTHER_REASON)]

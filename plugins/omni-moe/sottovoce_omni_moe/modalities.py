"""Kinds of the tokens at every position of a layer."""

from __future__ import annotations

from sottovoce import Model, Sample
from sottovoce_omni_moe.codes import codes_in
from sottovoce_omni_moe.conversation import answer_ids, inputs
from sottovoce_omni_moe.talker import speaks, talker_ids

SPEECH = "speech"


def modalities(model: Model, sample: Sample, block: str) -> tuple[str, ...]:
    """Return the kind of every token that a block is given when ``forward`` runs the sample.

    Args:
        model: The model.
        sample: The conversation.
        block: Name of a layer of the thinker or the talker.

    Returns:
        For the thinker ``audio``, ``image`` or ``video`` where a token stands for one, and ``text`` for all others,
        those that open and end a message too. For the talker ``speech`` throughout.
    """
    ids = inputs(model, sample, answered=True)["input_ids"][0]
    config = model.native.config
    if block.startswith("talker."):
        if not speaks(model.native):
            return ()
        codes = codes_in(sample, model.native)
        opening = talker_ids(config, ids, len(ids) - len(answer_ids(model, sample)))
        return (SPEECH,) * (len(opening) + (0 if codes is None else len(codes)))
    thinker = config.thinker_config
    kinds = {thinker.audio_token_id: "audio", thinker.image_token_id: "image", thinker.video_token_id: "video"}
    return tuple(kinds.get(token, "text") for token in ids.tolist())

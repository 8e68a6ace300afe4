"""The kit on the sample third-party plugin; ``test_third_party_plugin.py`` runs it where the plugin is installed."""

from __future__ import annotations

import json
from pathlib import Path

from sottovoce.testing import Conformance


class TestWav2Vec2(Conformance):
    architecture = "wav2vec2-ctc"

    @classmethod
    def make_model(cls, directory: Path) -> None:
        import torch
        from transformers import (
            Wav2Vec2Config,
            Wav2Vec2CTCTokenizer,
            Wav2Vec2FeatureExtractor,
            Wav2Vec2ForCTC,
            Wav2Vec2Processor,
        )

        letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
        vocabulary = directory.parent / "vocab.json"
        vocabulary.write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
        tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary))
        vocabulary.unlink()
        config = Wav2Vec2Config(
            vocab_size=len(letters),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            conv_dim=(32, 32),
            conv_kernel=(10, 8),
            conv_stride=(5, 8),
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            pad_token_id=0,
        )
        torch.manual_seed(0)
        Wav2Vec2ForCTC(config).save_pretrained(directory)
        Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(directory)

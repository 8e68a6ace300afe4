"""The processor without torchvision: its videos, and that its files are those of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sottovoce
from plugins.omni_moe.conversations import picture
from plugins.omni_moe.tiny import MELS, PATCH, make_model, make_processor
from sottovoce.errors import SourceError
from sottovoce_omni_moe.processor import Qwen3OmniMoeProcessor, load_processor

PROMPT = "<|vision_start|><|video_pad|><|vision_end|>"


def test_a_video_that_stands_still_is_a_picture() -> None:
    processor = make_processor()
    found = processor.video_processor([np.stack([picture()] * 4)])
    still = processor.image_processor(picture())
    assert found["video_grid_thw"].tolist() == [[2, *still["image_grid_thw"][0][1:]]]
    np.testing.assert_array_equal(found["pixel_values_videos"], np.concatenate([still["pixel_values"]] * 2))


def test_a_patch_holds_the_frames_one_after_the_other() -> None:
    processor = make_processor()
    frames = np.stack([picture(number) for number in range(3)])
    pixels = processor.video_processor([frames])["pixel_values_videos"]
    pairs = pixels.reshape(2, -1, 3, 2, PATCH**2)
    for number in range(4):
        # The last frame stands for the fourth.
        alone = processor.image_processor(frames[min(number, 2)])["pixel_values"].reshape(-1, 3, 2, PATCH**2)
        np.testing.assert_array_equal(pairs[number // 2, :, :, number % 2], alone[:, :, 0])


def test_there_is_a_token_for_four_patches() -> None:
    processor = make_processor()
    videos = [np.stack([picture()] * 4), np.stack([picture(height=16, width=16)] * 2)]
    found = processor(text=[PROMPT * 2], videos=videos, return_tensors="pt")
    tokens = int((found["input_ids"] == processor.video_token_id).sum())
    assert tokens == len(found["pixel_values_videos"]) // 4 == int(found["video_grid_thw"].prod(dim=1).sum()) // 4


def test_it_is_saved_as_one_of_transformers(tmp_path: Path) -> None:
    processor = make_processor()
    processor.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    assert settings["processor_class"] == "Qwen3OmniMoeProcessor"
    assert settings["video_processor"]["video_processor_type"] == "Qwen2VLVideoProcessor"
    assert settings["image_processor"]["image_processor_type"] == "Qwen2VLImageProcessor"
    again = load_processor(tmp_path)
    assert isinstance(again, Qwen3OmniMoeProcessor)
    assert again.chat_template == processor.chat_template
    assert again.feature_extractor.feature_size == MELS
    assert again.video_processor.size == processor.video_processor.size
    again.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "processor_config.json").read_text()) == settings


def test_the_layout_of_the_published_models(tmp_path: Path) -> None:
    """One file of settings for all, as Qwen publishes them."""
    processor = make_processor()
    processor.tokenizer.save_pretrained(tmp_path)
    settings = processor.feature_extractor.to_dict() | {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen3OmniMoeProcessor",
        "min_pixels": 16 * 16,
        "max_pixels": 24 * 24,
        "patch_size": PATCH,
        "merge_size": 2,
        "temporal_patch_size": 2,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    again = load_processor(tmp_path)
    assert again.video_processor.patch_size == again.image_processor.patch_size == PATCH
    assert again.chat_template == "{{ messages }}"
    assert again.image_processor(picture())["pixel_values"].shape[1] == 3 * 2 * PATCH**2


def test_model_without_a_talker_loads_with_the_talker_settings_of_its_class(tmp_path: Path) -> None:
    make_model(tmp_path, talker=False)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["talker_config"]
    path.write_text(json.dumps(config), encoding="utf-8")
    assert sottovoce.load(tmp_path).processor is not None


def test_audio_token_that_is_another_in_every_part_is_refused(tmp_path: Path) -> None:
    make_model(tmp_path, talker=False)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    del config["talker_config"], config["thinker_config"]["audio_token_id"]
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(SourceError, match="audio_token_id"):
        sottovoce.load(tmp_path)

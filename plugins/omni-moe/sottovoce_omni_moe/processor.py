"""The models' processor, with torchvision and without it.

That of transformers cannot even be made without torchvision, although only its videos need it. Where torchvision is
missing, pictures go through Pillow, as transformers itself then does, and the frames of a video like pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import transformers
from numpy.typing import NDArray
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer, BatchFeature
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils.import_utils import is_torchvision_available

VIDEO_CLASS = "Qwen2VLVideoProcessor"


def load_processor(directory: Path) -> Any:
    """Load the processor in a model's directory; it is saved as one of transformers, whatever is installed here."""
    kind = transformers.Qwen3OmniMoeProcessor if is_torchvision_available() else Qwen3OmniMoeProcessor
    return kind.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


class FramesProcessor(Qwen2VLImageProcessorPil):
    """Frames of videos to patches, with Pillow; its settings are those of ``Qwen2VLVideoProcessor``."""

    model_input_names = ["pixel_values_videos", "video_grid_thw"]
    size = {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768}

    def __call__(self, videos: list[Any], **settings: Any) -> BatchFeature:  # type: ignore[override]
        """Cut videos ``[frames, height, width, 3]`` into patches ``[patches, numbers]`` and grids ``[videos, 3]``.

        Raises:
            ValueError: A video is a file: decoding needs torchvision.
        """
        if not all(isinstance(video, np.ndarray) for video in videos):
            raise ValueError("decoding a video needs torchvision and a decoder such as torchcodec")
        settings["return_tensors"] = "np"
        patches = [self._patches(video, settings) for video in videos]
        pixels, grids = (np.concatenate(parts) for parts in zip(*patches, strict=True))
        return BatchFeature({"pixel_values_videos": pixels, "video_grid_thw": grids})

    def _patches(self, video: NDArray[np.uint8], settings: dict[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        size = self.temporal_patch_size
        # Frames that lack at the end are the last one again, as in transformers.
        frames = [*video, *[video[-1]] * (-len(video) % size)]
        batch = self.preprocess(frames, **settings)
        _, height, width = batch["image_grid_thw"][0]
        # A picture is a video that stands still: every patch holds it ``size`` times. Of each frame one of them stays.
        still = batch["pixel_values"].reshape(len(frames) // size, size, height * width, -1, size, self.patch_size**2)
        moving = still[..., 0, :].transpose(0, 2, 3, 1, 4)
        grid = np.array([[len(frames) // size, height, width]])
        return moving.reshape(len(frames) // size * height * width, -1), grid

    def to_dict(self) -> dict[str, Any]:
        """Return the settings with the name of the class that stock transformers makes of them."""
        form: dict[str, Any] = super().to_dict()
        form.pop("image_processor_type", None)
        return form | {"video_processor_type": VIDEO_CLASS}


class Qwen3OmniMoeProcessor(transformers.Qwen3OmniMoeProcessor):
    """With :class:`FramesProcessor` for videos. A saved processor names its class, so this is called like its base."""

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> type:
        """Skip the check that looks the classes up, for which transformers wants torchvision."""
        return type(argument)

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: Any = None, **settings: Any
    ) -> list[Any]:
        video_settings = (processor_dict or {}).get("video_processor")
        autos: tuple[Any, ...] = (AutoImageProcessor, FramesProcessor, AutoFeatureExtractor, AutoTokenizer)
        return [
            FramesProcessor(**video_settings)
            if auto is FramesProcessor and video_settings
            else auto.from_pretrained(pretrained_model_name_or_path, **settings)
            for auto in autos
        ]

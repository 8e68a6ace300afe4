"""Lets torchvision be imported where its compiled part does not fit the installed torch."""

from __future__ import annotations

import torch

_LIBRARIES: list[torch.library.Library] = []
_ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def allow_import() -> None:
    """Names the compiled operators whose absence keeps torchvision from being imported.

    A torchvision that was built for CUDA says "operator torchvision::nms does not exist" beside a torch for processors.
    Transformers' image and video processors need torchvision's resizing and nothing compiled, if they are given
    pictures and not paths.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(name + _ARGUMENTS)
        _LIBRARIES.append(library)

"""Audio as Opus, small enough to lie inside a page; needs PyAV (the extra ``audio``)."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any

from sottovoce.errors import SottovoceError
from sottovoce.system.audio import SAMPLE_RATE, read_audio
from sottovoce.text.plain_text import one_line

_ENCODER = "libopus"
_BITS = 24_000
"""Bits a second: speech sounds as in the source."""


def require_opus() -> None:
    """Check that audio can be encoded.

    Raises:
        SottovoceError: PyAV is not installed, or its FFmpeg has no encoder for Opus.
    """
    if find_spec("av") is None:
        raise SottovoceError("audio in a page needs PyAV; pip install av, or leave --audio out")
    try:
        from av.codec import Codec

        Codec(_ENCODER, "w")
    except (ImportError, ValueError) as error:
        raise SottovoceError(
            f"audio in a page needs FFmpeg's encoder {_ENCODER}, which this machine's PyAV lacks ({one_line(error)}); "
            "pip install --force-reinstall av, or leave --audio out"
        ) from None


def encode_opus(audio: Any, longest: float, *, name: str = "") -> bytes:
    """Return audio as an Ogg file with Opus, mono.

    Args:
        audio: A file, a segment of one, or samples ``[time]`` of 16 kHz.
        longest: Seconds that are encoded at most.
        name: Owner of the audio, with which errors begin.

    Raises:
        SamplesError: The audio cannot be read.
    """
    import av
    import numpy as np

    samples = read_audio(audio, name=name)[: int(longest * SAMPLE_RATE)]
    pcm = np.clip(samples * 32767, -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream(_ENCODER, rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = _BITS
        frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()

"""Audio of any kind comes out as mono samples of one rate; what is none is told in one line, with its file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sottovoce import Sample, SottovoceError, read_audio
from sottovoce.errors import SamplesError
from sottovoce.system.audio import FRAME, AudioSegment, audio_info

RATE = 16_000
TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)).astype(np.float32)
BY_FFMPEG = {
    "m4a": ("aac", "ipod", RATE),
    "mp4": ("aac", "mp4", 44100),
    "webm": ("libopus", "webm", 48000),
    "aac": ("aac", "adts", RATE),
    "wma": ("wmav2", "asf", 44100),
}


def written(path: Path, samples: Any = TONE, rate: int = RATE, **options: Any) -> Path:
    soundfile.write(path, samples, rate, **options)
    return path


def encoded(path: Path) -> Path:
    """The tone in a format that libsndfile does not know."""
    av = pytest.importorskip("av")
    codec, container, rate = BY_FFMPEG[path.suffix[1:]]
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.layout, stream.bit_rate = "mono", 64000
        frame = av.AudioFrame.from_ndarray(TONE[None], format="flt", layout="mono")
        frame.sample_rate = RATE
        # Some encoders take frames of one size only.
        size = stream.codec_context.frame_size or 1024
        fitting = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=size)
        for piece in [*fitting.resample(frame), *fitting.resample(None)]:
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return path


def cut(path: Path, size: int) -> Path:
    path.write_bytes(path.read_bytes()[:size])
    return path


def pitch(samples: Any) -> float:
    """Of the loudest tone, in Hz at 16 kHz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * RATE / len(samples))


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_wav_file_is_read_exactly(suffix: str, tmp_path: Path) -> None:
    path = written(tmp_path / f"a.{suffix}")
    expected = soundfile.read(path, dtype="float32")[0]
    found = read_audio(path, RATE)
    assert np.array_equal(found, expected)
    assert found.dtype == np.float32


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_number_of_channels_is_read(rate: int, channels: int, tmp_path: Path) -> None:
    fast = soxr.resample(TONE, RATE, rate)
    path = written(tmp_path / "a.wav", np.stack([fast] * channels, axis=1), rate)
    found = read_audio(str(path))
    assert abs(len(found) - len(TONE)) <= 2
    assert pitch(found) == pytest.approx(440, abs=2)
    assert read_audio(path, rate).shape == fast.shape
    assert (audio_info(path).sampling_rate, audio_info(path).channels) == (rate, channels)
    assert audio_info(path).duration == pytest.approx(3.0, abs=0.001)


@pytest.mark.parametrize("suffix", BY_FFMPEG)
def test_other_formats_are_read_by_ffmpeg(suffix: str, tmp_path: Path) -> None:
    path = encoded(tmp_path / f"a.{suffix}")
    found = read_audio(path)
    assert abs(len(found) / RATE - 3.0) < 0.25
    assert pitch(found) == pytest.approx(440, abs=2)
    assert audio_info(path).duration == pytest.approx(3.0, abs=0.25)
    piece = read_audio(AudioSegment(path, 1.0, 2.0))
    assert abs(len(piece) - RATE) <= 2
    assert pitch(piece) == pytest.approx(440, abs=2)


def test_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encoded(tmp_path / "a.m4a")
    monkeypatch.setitem(sys.modules, "av", None)
    for read in (read_audio, audio_info):
        with pytest.raises(SamplesError, match=r"a\.m4a: cannot be read as audio \(.*pip install av\)"):
            read(path)


def test_playlist_is_not_followed(tmp_path: Path) -> None:
    encoded(tmp_path / "b.aac")
    (tmp_path / "a.m4a").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nb.aac\n#EXT-X-ENDLIST\n")
    with pytest.raises(SamplesError, match="cannot be read as audio"):
        read_audio(tmp_path / "a.m4a")


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (0.5, 1.25, 8000, 20000),
        (1.0, None, 16000, 48000),
        (0.0, 3.0, 0, 48000),
        (2.9, 3.1, 46400, 48000),
    ],
)
def test_segment_of_a_file_is_read(start: float, end: float | None, first: int, last: int, tmp_path: Path) -> None:
    path = written(tmp_path / "a.flac")
    whole = read_audio(path)
    assert np.array_equal(read_audio(AudioSegment(path, start, end)), whole[first:last])
    assert audio_info(AudioSegment(path, start, end)).duration == pytest.approx((last - first) / RATE)


@pytest.mark.parametrize(("start", "end"), [(-1.0, 2.0), (2.0, 1.0), (1.0, 1.0), (4.0, None), (1.0, 4.0)])
def test_segment_outside_the_file_is_refused(start: float, end: float | None, tmp_path: Path) -> None:
    segment = AudioSegment(written(tmp_path / "a.wav"), start, end)
    for read in (read_audio, audio_info):
        with pytest.raises(SamplesError, match=r"a\.wav: .* are not within its 3.00 s of audio"):
            read(segment)


@pytest.mark.parametrize(
    "given",
    [
        TONE,
        TONE[:, None],
        TONE[None],
        np.stack([TONE, TONE]),
        np.stack([TONE, TONE], axis=1),
        TONE.astype(np.float64),
        (TONE * 32768).astype(np.int16),
        (TONE * 32768).astype(np.int32) * 65536,
        TONE.tolist(),
        ((TONE * 32768).astype(np.int32) + 32768).astype(np.uint16),
    ],
    ids=["time", "time, 1", "1, time", "2, time", "time, 2", "double", "int16", "int32", "list", "uint16"],
)
def test_arrays_of_any_shape_and_type_give_the_same_samples(given: Any) -> None:
    assert np.abs(read_audio(given) - TONE).max() <= 1 / 32768
    assert audio_info(given).duration == 3.0


def test_array_is_resampled_from_its_rate() -> None:
    fast = soxr.resample(TONE, RATE, 48000)
    assert np.abs(read_audio(fast, RATE, original_rate=48000)[500:-500] - TONE[500:-500]).max() < 0.01
    with pytest.raises(SamplesError, match="0 Hz is not a valid sampling rate"):
        read_audio(fast, RATE, original_rate=0)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (np.zeros(0, np.float32), "is empty"),
        (np.zeros((0, 2), np.float32), "is empty"),
        ([], "is empty"),
        (np.array([0.1, np.nan]), "are NaN or infinite"),
        (np.array([0.1, -np.inf]), "are NaN or infinite"),
        (np.array([0.1, 1e300]), "are NaN or infinite"),
        (TONE * 32768, "divide 16-bit values by 32768"),
        (np.zeros((2, 2, 2)), "must be a file, or numbers"),
        (np.zeros((80, 300)), "is not audio"),
        (np.array(["a"]), "must be a file, or numbers"),
        (np.ones(9, bool), "must be a file, or numbers"),
        (np.ones(9, complex), "must be a file, or numbers"),
        ([[1.0], [1.0, 2.0]], "is not an array"),
        (None, "must be a file, or numbers"),
        ((TONE, 16000), "give the array, and the rate as an argument of its own"),
        ((16000, TONE), "give the array, and the rate as an argument of its own"),
        ({"array": TONE, "sampling_rate": 16000}, "give its 'array', and the rate as an argument of its own"),
        (Sample(key="a", audio=TONE), "is a sample: give its audio"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_invalid_array_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(SamplesError, match=f"^the audio: .*{problem}"):
        read_audio(given)
    with pytest.raises(SamplesError, match=f"^sample 'a': .*{problem}"):
        read_audio(given, name="sample 'a'")


@pytest.mark.parametrize("rate", ["16000", None, True, [16000]])
def test_rate_that_is_no_number_is_refused(rate: Any) -> None:
    for rates in ({"original_rate": rate}, {"sampling_rate": rate}):
        with pytest.raises(SamplesError, match="a sampling rate is a number of Hz, not"):
            read_audio(TONE, **rates)


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int16, np.uint8, np.int64]),
        arrays.array_shapes(max_dims=3, max_side=70),
    )
)
def test_any_array_gives_samples_or_a_one_line_error(given: Any) -> None:
    try:
        found = read_audio(given)
    except SottovoceError as error:
        assert "\n" not in str(error)
    else:
        assert found.ndim == 1 and np.isfinite(found).all()


def damaged(folder: Path) -> dict[str, tuple[Path, str]]:
    wave = written(folder / "whole.wav").read_bytes()
    place = wave.index(b"data") + 4
    (folder / "zero.wav").write_bytes(wave[:place] + bytes(4) + wave[place + 4 :])
    (folder / "nothing.wav").write_bytes(b"")
    (folder / "bare.raw").write_bytes(bytes(3200))
    (folder / "text.wav").write_text("not audio")
    nan = TONE.copy()
    nan[7] = np.nan
    return {
        "no samples": (written(folder / "empty.wav", TONE[:0]), "is empty"),
        "a header of 0 bytes": (folder / "zero.wav", "is empty"),
        "0 bytes": (folder / "nothing.wav", "is empty"),
        "cut flac": (cut(written(folder / "cut.flac"), 9000), "damaged or cut off"),
        "cut wav": (cut(written(folder / "cut.wav"), 20000), "is cut off"),
        "cut aiff": (cut(written(folder / "cut.aiff"), 20000), "is cut off"),
        "cut au": (cut(written(folder / "cut.au"), 20000), "is cut off"),
        "cut w64": (cut(written(folder / "cut.w64"), 20000), "is cut off"),
        "bare samples": (folder / "bare.raw", "convert them to WAV"),
        "text": (folder / "text.wav", "cannot be read as audio"),
        "not a number": (written(folder / "nan.wav", nan, subtype="FLOAT"), "are NaN or infinite"),
        "missing": (folder / "none.wav", "no such audio file"),
        "a folder": (folder, "is a directory"),
        "too long a name": (folder / ("a" * 5000), "cannot be read as audio"),
    }


KINDS = (
    "no samples",
    "a header of 0 bytes",
    "0 bytes",
    "cut flac",
    "cut wav",
    "cut aiff",
    "cut au",
    "cut w64",
    "bare samples",
    "text",
    "not a number",
    "missing",
    "a folder",
    "too long a name",
)


@pytest.mark.parametrize("kind", KINDS)
def test_broken_file_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    path, problem = damaged(tmp_path)[kind]
    with pytest.raises(SamplesError, match=problem) as caught:
        read_audio(path, name="sample 'a'")
    assert str(caught.value).startswith(f"sample 'a': {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["m4a", "webm"])
def test_truncated_container_is_refused(suffix: str, tmp_path: Path) -> None:
    path = encoded(tmp_path / f"a.{suffix}")
    cut(path, path.stat().st_size // 2)
    with pytest.raises(SamplesError, match=rf"a\.{suffix}: "):
        read_audio(path)


def test_streamed_file_is_read_completely(tmp_path: Path) -> None:
    path = written(tmp_path / "pipe.wav")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[4:8] = content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(read_audio(path)) == len(TONE)
    pytest.importorskip("av")
    path = written(tmp_path / "pipe.flac")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    assert len(read_audio(path)) == len(TONE)
    assert audio_info(path).duration == pytest.approx(3.0, abs=0.01)


def test_audio_shorter_than_what_is_needed_is_an_error_that_says_both(tmp_path: Path) -> None:
    short = np.zeros(399, np.float32)
    assert len(read_audio(short)) == 399
    assert len(read_audio(np.zeros(400, np.float32), shortest=FRAME)) == 400
    with pytest.raises(SottovoceError, match="^sample 'a': 24.9 ms are shorter than one frame of 25 ms"):
        read_audio(short, shortest=FRAME, name="sample 'a'")
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(160), RATE)
    with pytest.raises(SottovoceError, match="short.wav: 10.0 ms are shorter than one frame of 25 ms"):
        read_audio(path, shortest=FRAME)

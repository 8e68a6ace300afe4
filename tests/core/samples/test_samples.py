"""Manifests: what is read, and what is refused, with file and line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from sottovoce import Sample, Samples, read_audio, read_samples
from sottovoce.errors import SamplesError
from sottovoce.samples import check_audio


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "wav" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, np.zeros(8000, dtype=np.float32), 16000)
    return path


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_json_lines_manifest_is_read(audio: Path, tmp_path: Path) -> None:
    words = [{"text": "hi", "start": 0.0, "end": 0.2}]
    line = {"key": "u1", "source": "wav/a.wav", "target": "hi", "language": "en", "words": words, "voice": "f1"}
    samples = read_samples(manifest(tmp_path, json.dumps(line), "", json.dumps({"source": str(audio)})))
    assert [sample.key for sample in samples] == ["u1", "000003"]
    assert samples[0].audio == audio
    assert (samples[0].text, samples[0].language, samples[0].words) == ("hi", "en", tuple(words))
    assert samples[1].text is None
    assert samples.to_dict()["audio_seconds"] == 1.0


def test_only_line_feeds_end_lines(audio: Path, tmp_path: Path) -> None:
    said = "one\u2028two\x85three\u2029four\x1cfive\x0bsix"
    line = json.dumps({"key": "a", "source": "wav/a.wav", "target": said}, ensure_ascii=False).replace("\\u000b", "")
    path = tmp_path / "data.jsonl"
    path.write_bytes((line + "\r\n" + line.replace('"a"', '"b"')).encode())
    samples = read_samples(path)
    assert [sample.key for sample in samples] == ["a", "b"]
    assert all("\u2028" in sample.text and "\x85" in sample.text for sample in samples)


def test_line_with_start_and_end_is_a_segment(audio: Path, tmp_path: Path) -> None:
    soundfile.write(audio, np.arange(8000, dtype=np.int16), 16000)
    lines = [
        {"key": str(number), "source": "wav/a.wav", "start": number / 10, "end": number / 10 + 0.1}
        for number in range(4)
    ]
    samples = read_samples(manifest(tmp_path, *map(json.dumps, lines)))
    assert [round(sample.seconds, 6) for sample in samples] == [0.1] * 4
    found = read_audio(samples[2].audio) * 32768
    assert (found[0], len(found)) == (3200, 1600)
    moved = [line | {"start": line["start"] + 0.05} for line in lines]
    assert read_samples(manifest(tmp_path, *map(json.dumps, moved))).digest != samples.digest


@pytest.mark.parametrize("given", ["Chinese", "zh", "zh-CN", "ZH", "zh_Hans", "cmn", "中文"])
def test_language_is_stored_as_its_code(given: str, audio: Path, tmp_path: Path) -> None:
    (sample,) = read_samples(manifest(tmp_path, json.dumps({"source": "wav/a.wav", "language": given})))
    assert sample.language == "zh"
    assert Sample(key="a", text="a", language=given).language == "zh"


def test_damaged_audio_is_found_before_a_model_runs(tmp_path: Path) -> None:
    tone = (0.1 * np.sin(np.arange(48000))).astype(np.float32)
    for name in ("good", "bad"):
        soundfile.write(tmp_path / f"{name}.flac", tone, 16000)
    (tmp_path / "bad.flac").write_bytes((tmp_path / "bad.flac").read_bytes()[:9000])
    lines = [json.dumps({"key": name, "source": f"{name}.flac"}) for name in ("good", "bad")]
    samples = read_samples(manifest(tmp_path, *lines))
    with pytest.raises(SamplesError, match=r"^sample 'bad': .*bad\.flac: the audio is damaged or cut off"):
        check_audio(samples)
    check_audio(Samples(samples.items[:1]))


def test_kaldi_directory_is_read(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(f"u1 {audio}\nu2 wav/a.wav\n")
    (tmp_path / "text").write_text("u1 你好 吗\n")
    for path in (tmp_path, tmp_path / "wav.scp"):
        samples = read_samples(path)
        assert [(sample.key, sample.text) for sample in samples] == [("u1", "你好 吗"), ("u2", None)]


@pytest.mark.parametrize("gap", [" ", "\t", "  ", " \t "])
def test_kaldi_divides_by_spaces_and_tabs(gap: str, audio: Path, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(f"u1{gap}wav/a.wav\nu2{gap}wav/a.wav\n")
    (tmp_path / "text").write_text(f"u1{gap}你好 吗\nu2\n")
    samples = read_samples(tmp_path)
    assert [(sample.key, sample.text) for sample in samples] == [("u1", "你好 吗"), ("u2", "")]


def test_kaldi_segments_cut_recordings(audio: Path, tmp_path: Path) -> None:
    soundfile.write(audio, np.arange(8000, dtype=np.int16), 16000)
    (tmp_path / "wav.scp").write_text("r1 wav/a.wav\nr2 wav/a.wav\n")
    (tmp_path / "segments").write_text("u1 r1 0.1 0.2\nu2 r2\t0.25 -1\n")
    (tmp_path / "text").write_text("u1 a\nu2 b\n")
    samples = read_samples(tmp_path)
    assert [(sample.key, sample.text, round(sample.seconds, 3)) for sample in samples] == [
        ("u1", "a", 0.1),
        ("u2", "b", 0.25),
    ]
    assert [read_audio(sample.audio)[0] * 32768 for sample in samples] == [1600, 4000]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"wav.scp": "u1"}, "wav.scp:1: a line must be a key and a path"),
        ({"wav.scp": "u1 wav/a.wav\nu1 wav/a.wav"}, "wav.scp:2: the key 'u1' occurs twice"),
        ({"text": "u1 a\nu1 b"}, "text:2: the key 'u1' occurs twice"),
        ({"text": "u7 a"}, "text: has no transcript of any utterance, such as 'u1'"),
        ({"wav.scp": "u1 sph2pipe -f wav a.sph |"}, "wav.scp:1: 'sph2pipe -f wav a.sph |' is a command"),
        ({"wav.scp": "u1 raw.ark:17"}, "is a place in an archive"),
        ({"wav.scp": "u1 none.wav"}, "wav.scp:1: no such audio file: none.wav"),
        ({"segments": "s1 u1 0.1"}, "segments:1: a line must be a key, a recording, and its start and end"),
        ({"segments": "s1 u1 0.2 0.1"}, "segments:1: a line must be a key, a recording, and its start and end"),
        ({"segments": "s1 u1 nan 0.1"}, "segments:1: a line must be a key, a recording, and its start and end"),
        ({"segments": "s1 u9 0 0.1"}, "segments:1: wav.scp has no recording 'u9'"),
        ({"segments": "s1 u1 0 0.1\ns1 u1 0.1 0.2"}, "segments:2: the key 's1' occurs twice"),
        ({"segments": "s1 u1 0 9"}, "are not within its 0.50 s of audio"),
    ],
)
def test_broken_kaldi_directory_is_named(files: dict[str, str], problem: str, audio: Path, tmp_path: Path) -> None:
    for name, content in ({"wav.scp": "u1 wav/a.wav\n"} | files).items():
        (tmp_path / name).write_text(content)
    with pytest.raises(SamplesError) as caught:
        read_samples(tmp_path)
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_digest_differs_for_other_data(audio: Path, tmp_path: Path) -> None:
    first = read_samples(manifest(tmp_path, '{"key": "a", "source": "wav/a.wav", "target": "x"}')).digest
    second = read_samples(manifest(tmp_path, '{"key": "a", "source": "wav/a.wav", "target": "y"}')).digest
    soundfile.write(audio, np.ones(8000, dtype=np.float32), 16000)
    third = read_samples(manifest(tmp_path, '{"key": "a", "source": "wav/a.wav", "target": "y"}')).digest
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object"),
        ("{}", "neither 'source'"),
        ('{"source": 3}', "'source' must be a str, not int"),
        ('{"source": "wav/a.wav", "target": ["x"]}', "'target' must be a str"),
        ('{"source": "wav/none.wav"}', "no such audio file: wav/none.wav"),
        ('{"source": "wav"}', "no such audio file: wav"),
        (json.dumps({"source": "a" * 5000}), "no such audio file: aaa"),
        (json.dumps({"source": "a\0b"}), r"no such audio file: a\x00b"),
        (json.dumps({"source": "a\nb"}), r"no such audio file: a\nb"),
        (r'{"source": "\ud800.wav"}', "half a character"),
        (r'{"source": "wav/a.wav", "target": "\udc00"}', "half a character"),
        (r'{"source": "wav/a.wav", "\ud800": 1}', "half a character"),
        ("[" * 100_000, "too deeply"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "too deeply"),
        ('{"source": "wav/a.wav", "a": ' + "9" * 5000 + "}", "is too large"),
        ('{"source": "wav/a.wav", "a": -9223372036854775809}', "is too large"),
        ('{"source": "wav/a.wav", "a": NaN}', "NaN is not a valid number"),
        ('{"source": "wav/a.wav", "a": -Infinity}', "-Infinity is not a valid number"),
        ('{"source": "wav/a.wav", "a": 1e999}', "1e999 is not a valid number"),
        ('{"source": "wav/a.wav", "source": "b.wav"}', "'source' occurs twice in an object"),
        ('{"source": "wav/a.wav", "words": ["hi"]}', "each of 'words' must be an object"),
        ('{"source": "wav/a.wav", "words": [{"text": "a", "start": NaN, "end": 1}]}', "NaN is not a valid number"),
        ('{"source": "wav/a.wav", "words": [{"text": "a", "start": "nan", "end": 1}]}', "'start' of a word must be"),
        ('{"source": "wav/a.wav", "words": [{"text": "a", "start": 0, "end": []}]}', "'end' of a word must be"),
        ('{"source": "wav/a.wav", "language": "Klingon"}', "sample '000002': 'Klingon' is not a language"),
        ('{"source": "wav/a.wav", "language": ""}', "'' is not a language"),
        ('{"source": "wav/a.wav", "start": "1"}', "'start' must be seconds of 'source'"),
        ('{"source": "wav/a.wav", "start": 0.1, "end": 9}', "sample '000002': "),
        ('{"key": "u", "source": "wav/empty.wav"}', "wav/empty.wav: is empty"),
        ('{"key": "u", "source": "wav/cut.wav"}', "wav/cut.wav: is cut off"),
    ],
)
def test_broken_line_is_named(line: str, problem: str, audio: Path, tmp_path: Path) -> None:
    path = manifest(tmp_path, '{"source": "wav/a.wav"}', line)
    soundfile.write(tmp_path / "wav" / "empty.wav", np.zeros(0, np.float32), 16000)
    (tmp_path / "wav" / "cut.wav").write_bytes(audio.read_bytes()[:4000])
    with pytest.raises(SamplesError) as caught:
        read_samples(path)
    assert f"{path}:2: " in str(caught.value)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_repeated_key_is_refused(audio: Path, tmp_path: Path) -> None:
    line = '{"key": "u", "source": "wav/a.wav"}'
    with pytest.raises(SamplesError, match="'u' occurs twice"):
        read_samples(manifest(tmp_path, line, line))


def test_missing_and_empty_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SamplesError, match="no such manifest"):
        read_samples(tmp_path / "none.jsonl")
    with pytest.raises(SamplesError, match="no such manifest"):
        read_samples(tmp_path / ("a" * 5000))
    with pytest.raises(SamplesError, match="no such manifest"):
        read_samples(tmp_path)
    with pytest.raises(SamplesError, match="no samples"):
        read_samples(manifest(tmp_path, "", " "))
    (tmp_path / "data.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SamplesError, match="UTF-8"):
        read_samples(tmp_path / "data.jsonl")


@given(st.text())
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.jsonl"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            read_samples(path)
        except SamplesError as error:
            assert "\n" not in str(error).replace(text, "")


def conversation(*content: object, **fields: object) -> str:
    return json.dumps({"key": "c", "messages": [{"role": "user", "content": list(content)}], **fields})


@pytest.fixture
def media(audio: Path, tmp_path: Path) -> dict[str, dict[str, object]]:
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(b"picture %d" % number)
    return {
        "audio": {"type": "audio", "audio": "wav/a.wav"},
        "image": {"type": "image", "image": "0.png"},
        "video": {"type": "video", "video": ["0.png", "1.png"]},
        "clip": {"type": "video", "video": "1.png"},
        "text": {"type": "text", "text": "what?"},
    }


def test_media_paths_are_relative_to_the_manifest(media: dict[str, dict[str, object]], tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "hm", "codes": [[1, 2]]}
    line = json.loads(conversation(*media.values()))
    line["messages"].append(said)
    (sample,) = read_samples(manifest(tmp_path, json.dumps(line)))
    spoken, image, video, clip, text = sample.messages[0]["content"]
    assert spoken == {"type": "audio", "audio": tmp_path / "wav" / "a.wav"}
    assert image["image"] == tmp_path / "0.png"
    assert (video["video"], clip["video"]) == ([tmp_path / "0.png", tmp_path / "1.png"], tmp_path / "1.png")
    assert text == media["text"]
    assert sample.messages[1] == said
    assert sample.seconds == 0.5


@pytest.mark.parametrize(
    ("kinds", "modality"),
    [
        (("text",), "text"),
        (("text", "audio"), "audio"),
        (("image", "text"), "image"),
        (("image", "audio"), "audio"),
        (("audio", "clip", "image"), "video"),
    ],
)
def test_modality_follows_the_content(
    kinds: tuple[str, ...], modality: str, media: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    content = [media[kind] for kind in kinds]
    (sample,) = read_samples(manifest(tmp_path, conversation(*content)))
    assert sample.modality == modality
    assert sample.modalities == {media[kind]["type"] for kind in kinds}
    (sample,) = read_samples(manifest(tmp_path, conversation(*content, modality="ocr")))
    assert sample.modality == "ocr"


def test_modality_without_messages_follows_the_audio() -> None:
    assert Sample(key="a", audio=np.zeros(16000, np.float32)).modality == "audio"
    assert Sample(key="a", text="x").modalities == {"text"}
    assert Sample(key="a", messages=[{"role": "user", "content": "x"}]).modality == "text"


def test_digest_covers_media_content_not_paths(media: dict[str, dict[str, object]], tmp_path: Path) -> None:
    line = conversation(*media.values())
    first = read_samples(manifest(tmp_path, line)).digest
    shutil.copytree(tmp_path, tmp_path / "copy")
    assert read_samples(tmp_path / "copy" / "data.jsonl").digest == first
    digests = {first}
    for name in ("wav/a.wav", "0.png", "1.png"):
        path = tmp_path / "copy" / name
        path.write_bytes(path.read_bytes() + b"!!")
        digests.add(read_samples(tmp_path / "copy" / "data.jsonl").digest)
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("hello", "each of 'messages' must be an object with a 'role' and a 'content'"),
        ({"content": "x"}, "each of 'messages' must be an object with a 'role' and a 'content'"),
        ({"role": "user"}, "a message's 'content' must be text, or a list of objects with a 'type'"),
        ({"role": "user", "content": ["x"]}, "a message's 'content' must be text, or a list of objects with a 'type'"),
        ([{"type": "image_url", "image_url": "x"}], "must be text, audio, image, video, not 'image_url'"),
        ([{"audio": "wav/a.wav"}], "must be text, audio, image, video, not None"),
        ([{"type": "audio", "audio": 3}], "content of the type 'audio' needs 'audio': a path"),
        ([{"type": "image", "path": "0.png"}], "content of the type 'image' needs 'image': a path"),
        ([{"type": "text"}], "content of the type 'text' needs 'text': a string"),
        ([{"type": "video", "video": []}], "needs 'video': a path, or a list of paths of images"),
        ([{"type": "video", "video": ["0.png", 3]}], "needs 'video': a path, or a list of paths of images"),
        ([{"type": "audio", "audio": "none.wav"}], "no such audio file: none.wav"),
        ([{"type": "audio", "audio": "0.png"}], "0.png: cannot be read as audio (Invalid argument)"),
        ([{"type": "image", "image": "https://example.com/0.png"}], "no such image file: https://example.com/0.png"),
        ([{"type": "video", "video": ["0.png", "9.png"]}], "no such video file: 9.png"),
    ],
)
def test_broken_message_is_named(
    message: object, problem: str, media: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    message = {"role": "user", "content": message} if isinstance(message, list) else message
    path = manifest(tmp_path, '{"source": "wav/a.wav"}', json.dumps({"messages": [message]}))
    with pytest.raises(SamplesError) as caught:
        read_samples(path)
    assert f"{path}:2: " in str(caught.value)
    assert problem in str(caught.value)


def test_choose_is_the_same_for_the_same_seed() -> None:
    samples = Samples(tuple(Sample(key=f"s{number}", text=str(number)) for number in range(40)))
    chosen = samples.choose(8)
    assert len({sample.key for sample in chosen}) == 8
    assert [sample.key for sample in chosen] == sorted((sample.key for sample in chosen), key=lambda key: int(key[1:]))
    assert samples.choose(8) == chosen
    assert samples.choose(8, seed=1) != chosen
    assert chosen.digest == samples.choose(8).digest != samples.choose(9).digest
    assert samples.choose(40).items == samples.items


@pytest.mark.parametrize("count", [0, -1, 41])
def test_choosing_too_many_samples_is_refused(count: int) -> None:
    samples = Samples(tuple(Sample(key=f"s{number}", text="x") for number in range(40)))
    with pytest.raises(SamplesError, match=f"{count} of 40 samples cannot be chosen"):
        samples.choose(count)


def test_a_slice_of_samples_is_samples_with_its_own_digest(audio: Path, tmp_path: Path) -> None:
    samples = read_samples(manifest(tmp_path, *(json.dumps({"key": key, "source": "wav/a.wav"}) for key in "abc")))
    first = samples[:2]
    assert isinstance(first, Samples)
    assert [sample.key for sample in first] == ["a", "b"]
    assert first.path == samples.path
    assert first.digest == first.identity != samples.digest
    assert samples[:].digest == samples.digest
    assert [sample.key for sample in samples[::-2]] == ["c", "a"]
    assert len(samples[5:]) == 0


def test_samples_in_a_notebook_are_shown_on_one_short_line(audio: Path, tmp_path: Path) -> None:
    path = manifest(tmp_path, json.dumps({"key": "a", "source": "wav/a.wav"}))
    assert repr(read_samples(path)) == f"<Samples {path}: 1 sample>"
    assert repr(Samples(())) == "<Samples 0 samples>"


def test_a_sample_takes_the_path_of_its_audio_as_text(audio: Path) -> None:
    given, read = Sample(key="a", audio=str(audio)), Sample(key="a", audio=audio)  # type: ignore[arg-type]
    assert given == read
    assert Samples((given,)).identity == Samples((read,)).identity


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("key", 5, "key is a text"),
        ("language", 5, "not a language"),
        ("text", 5, "sample 'a': its text is of type int"),
        ("words", None, "its words are of type NoneType; give a list"),
        ("messages", "hello", "messages are a list of mappings"),
        ("messages", {"role": "user"}, "messages are a list of mappings"),
        ("messages", [{"role": "user", "content": 5}], "'content' must be text, or a list of mappings"),
        ("messages", [{"role": "user", "content": [{"text": "a"}]}], "'content' must be text, or a list of mappings"),
        ("messages", [{"role": "user", "content": [{"type": "audio"}]}], "'content' must be text, or a list"),
    ],
)
def test_a_sample_refuses_values_of_other_types(field: str, value: object, problem: str) -> None:
    with pytest.raises(SamplesError, match=problem):
        Sample(**{"key": "a", field: value})  # type: ignore[arg-type]


def test_samples_of_a_list_hold_a_tuple() -> None:
    assert Samples([Sample(key="a", text="a")]) == Samples((Sample(key="a", text="a"),))  # type: ignore[arg-type]
    with pytest.raises(SamplesError, match=r"item 1 of the samples is of type str; make it a sottovoce\.Sample"):
        Samples((Sample(key="a", text="a"), "b.wav"))  # type: ignore[arg-type]

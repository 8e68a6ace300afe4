"""Secrets are found in whatever goes up, however they are spelled; a vocabulary is none."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce_hub.secret_kinds import kinds
from sottovoce_hub.secret_scan import OWN, find_secret

MODELS = Path(__file__).parents[2] / "examples" / "models"
DRAW = random.Random(0)
UPPER, WORD = string.ascii_uppercase + string.digits, string.ascii_letters + string.digits
HEX, LOWER = string.hexdigits[:16], string.ascii_lowercase + string.digits


def drawn(alphabet: str, count: int) -> str:
    # Made when the test runs: no scanner alarms on this file.
    return "7a" + "".join(DRAW.choice(alphabet) for _ in range(count - 2)) if count > 2 else "7a"


def upper(count: int) -> str:
    return drawn(UPPER, count).upper()


def part(form: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(form).encode()).decode().rstrip("=")


DASHES = "-" * 5
SECRETS = {
    "aws": ("an AWS key", "AKIA" + upper(16)),
    "aws temporary": ("an AWS key", "ASIA" + upper(16)),
    "aws secret": ("an AWS key", f"aws_secret_access_key = {drawn(WORD, 40)}"),
    "aws secret in json": ("an AWS key", json.dumps({"SecretAccessKey": drawn(WORD + "/+", 40)})),
    "aws session": ("an AWS key", json.dumps({"SessionToken": drawn(WORD + "/+", 300)})),
    "aliyun": ("an Aliyun key", "LTAI5t" + drawn(WORD, 18)),
    "tencent": ("a Tencent Cloud key", "AKID" + drawn(WORD, 32)),
    "azure": ("an Azure storage key", f"AccountName=a;AccountKey={drawn(WORD + '+/', 86)}=="),
    "azure shared": ("an Azure key", f"SharedAccessKey={drawn(WORD, 43)}="),
    "azure client": ("an Azure key", f"abc8Q~{drawn(WORD, 34)}"),
    "azure signed address": (
        "an Azure key",
        f"https://a.blob.core.windows.net/c?sv=2024-01-01&se=2030&sig={drawn(WORD, 44)}%3D",
    ),
    "google": ("a Google key", "AIza" + drawn(WORD, 35)),
    "google oauth": ("a Google key", "GOCSPX-" + drawn(WORD, 28)),
    "google access": ("a Google key", "ya29." + drawn(WORD, 60)),
    "gitlab": ("a GitLab token", "glpat-" + drawn(WORD, 20)),
    "gitlab runner": ("a GitLab token", "glrt-" + drawn(WORD, 20)),
    "github": ("a GitHub token", "ghp_" + drawn(WORD, 36)),
    "github fine": ("a GitHub token", "github_pat_" + drawn(WORD, 22) + "_" + drawn(WORD, 59)),
    "slack": ("a Slack token", f"xoxb-{'1' * 12}-{'2' * 12}-{drawn(WORD, 24)}"),
    "slack app": ("a Slack token", f"xapp-1-{upper(11)}-{'1' * 13}-{drawn(HEX, 64)}"),
    "slack hook": ("a Slack token", f"https://hooks.slack.com/services/T{upper(8)}/B{upper(8)}/{drawn(WORD, 24)}"),
    "npm": ("an npm token", "npm_" + drawn(WORD, 36)),
    "npmrc": ("an npm token", "//registry.npmjs.org/:_auth" + f"Token=npm_{drawn(WORD, 36)}"),
    "pypi": ("a PyPI token", "pypi-" + "AgEIcHlwaS5vcmc" + drawn(WORD, 80)),
    "stripe": ("a Stripe key", "sk_live_" + drawn(WORD, 24)),
    "stripe restricted": ("a Stripe key", "rk_live_" + drawn(WORD, 24)),
    "sendgrid": ("a SendGrid key", f"SG.{drawn(WORD, 22)}.{drawn(WORD, 43)}"),
    "openai": ("an API key", "sk-proj-" + drawn(WORD, 48)),
    "anthropic": ("an API key", "sk-ant-api03-" + drawn(WORD, 90)),
    "dashscope": ("an API key", "sk-" + drawn(HEX, 32)),
    "hugging face": ("a Hugging Face token", "hf_" + drawn(WORD, 34)),
    "modelscope": ("a ModelScope token", "-".join(["ms", *(drawn(HEX, count) for count in (8, 4, 4, 4, 12))])),
    "jwt": ("a JSON web token", f"{part({'alg': 'HS256'})}.{part({'sub': 'me'})}.{drawn(WORD, 43)}"),
    "rsa": ("a private key", f"{DASHES}BEGIN RSA PRIVATE KEY{DASHES}"),
    "openssh": ("a private key", f"{DASHES}BEGIN OPENSSH PRIVATE KEY{DASHES}"),
    "pkcs8": ("a private key", f"{DASHES}BEGIN PRIVATE KEY{DASHES}"),
    "encrypted": ("a private key", f"{DASHES}BEGIN ENCRYPTED PRIVATE KEY{DASHES}"),
    "pgp": ("a private key", f"{DASHES}BEGIN PGP PRIVATE KEY BLOCK{DASHES}"),
    "putty": ("a private key", "PuTTY-User-Key-" + "File-2: ssh-rsa"),
    "password": ("a password in an address", f"https://ann:{drawn(WORD, 10)}@git.example.com/x.git"),
    "password of a database": ("a password in an address", f"postgresql+psycopg2://ann:{drawn(WORD, 12)}@db:5432/x"),
    "password without a user": ("a password in an address", f"redis://:{drawn(WORD, 12)}@cache:6379/0"),
    "netrc": ("a password", "machine example.com login ann pass" + f"word {drawn(WORD, 10)}"),
}
SPELLINGS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "json": lambda text: json.dumps({"model": {"key": text}}, indent=1).encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "utf-16 at an odd place": lambda text: b"x" + f"words\n{text}".encode("utf-16-le"),
    "utf-32": lambda text: text.encode("utf-32"),
    "escaped": lambda text: json.dumps("".join(f"\\u{ord(each):04x}" for each in text)).replace("\\\\", "\\").encode(),
    "percent": lambda text: "".join(f"%{ord(each):02X}" for each in text).encode(),
    "base64": lambda text: b'{"auth": "' + base64.b64encode(f"xy {text} z".encode()) + b'"}',
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()),
    "base64 in lines": lambda text: base64.encodebytes(f"{'some words ' * 9}{text}".encode()),
    "base64 of utf-16": lambda text: base64.b64encode(text.encode("utf-16")),
    "base64 of base64": lambda text: base64.b64encode(base64.b64encode(f"{text} and more".encode())),
    "after a word of another script": lambda text: f"密码是{text}。".encode(),
    "in a picture": lambda text: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300 + text.encode() + bytes(range(256)),
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found_in_every_spelling(name: str) -> None:
    kind, secret = SECRETS[name]
    missed = [spelling for spelling, spell in SPELLINGS.items() if (find_secret(spell(secret)) or ("",))[0] != kind]
    assert missed == []


@pytest.mark.parametrize("where", [0, 1, 7_999_990, 16_000_000 - 8_010, 15_999_990, 20_000_000])
def test_a_secret_is_found_wherever_it_stands_in_a_text_and_its_line_is_told(tmp_path: Path, where: int) -> None:
    line = b"the quick brown fox jumps over the lazy dog 0123456789 and on\n"
    content = line * (where // len(line)) + ("hf_" + drawn(WORD, 34)).encode() + b"\n" + line * 20_000
    (tmp_path / "model.onnx").write_bytes(content)
    assert find_secret(tmp_path / "model.onnx") == ("a Hugging Face token", where // len(line) + 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_line_is_that_of_the_secret_and_not_of_a_word_like_it(encoding: str) -> None:
    text = "hf_hub\nsk-\n\nAKIA\nkey: " + "AKIA" + upper(16) + "\n"
    assert find_secret(text.encode(encoding)) == ("an AWS key", 5)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_users_own_token_is_found_whatever_it_looks_like(spelling: str) -> None:
    content = SPELLINGS[spelling]("correct-horse-battery")
    assert (find_secret(content, ["correct-horse-battery"]) or ("",))[0] == OWN
    assert find_secret(content) is None


def test_a_token_that_is_but_a_word_is_not_looked_for() -> None:
    assert find_secret(b"secret words", ["secret"]) is None


def vocabulary(count: int, seed: int = 0) -> list[str]:
    """Words as tokenizers have them: of letters, of junk, and all by which secrets begin."""
    draw = random.Random(seed)
    junk = WORD + "_-./:=+~@$#%&*()[]{}<>?!|\\\"'\u0120\u2581\u010a\u7684\u662f\u5728"
    alphabets = (WORD, junk, string.ascii_uppercase, HEX, string.ascii_lowercase)
    lengths = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 32, 48)
    words = {"".join(draw.choices(draw.choice(alphabets), k=draw.choice(lengths))) for _ in range(count)}
    words |= {hint for kind in kinds() for hint in kind.hints}
    words |= {"https://user:password@host", "BEGIN PRIVATE KEY", "risk-takers-all-over-the-world-unite", "hf_hub"}
    return sorted(words)


@pytest.mark.parametrize("count", [10_000, pytest.param(150_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.txt", "merges.txt", "tiktoken"])
def test_a_vocabulary_is_no_secret(count: int, form: str) -> None:
    words = vocabulary(count)
    merges = [f"{first} {second}" for first, second in zip(words, words[1:], strict=False)]
    charsmap = base64.b64encode(random.Random(1).randbytes(200_000)).decode()
    tokenizer = {"model": {"vocab": dict.fromkeys(words, 1), "merges": merges}, "normalizer": charsmap}
    content = {
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False),
        "vocab.txt": "\n".join(words),
        "merges.txt": "\n".join(merges),
        "tiktoken": "".join(f"{base64.b64encode(word.encode()).decode()} {word!r}\n" for word in words),
    }[form]
    assert find_secret(content.encode()) is None


def test_weights_that_begin_with_pages_of_text_are_no_text() -> None:
    header = json.dumps({f"layers.{number}.weight": {"dtype": "I8"} for number in range(5000)}).encode()
    weights = random.Random(0).randbytes(300_000)
    assert find_secret(header + weights + b"hf_" + drawn(WORD, 34).encode()) == ("a Hugging Face token", None)
    assert find_secret(header + b" hf_" + drawn(WORD, 34).encode() + b" " + weights) == ("a Hugging Face token", None)


@pytest.mark.parametrize("line", ["A" * 76, "://" * 25, "-----BEGIN ", "eyJ.eyJ.", "sk-", "LTAI", "%25", "\\u0041"])
def test_a_file_of_nothing_but_hints_is_looked_through_in_time_that_grows_with_it(line: str) -> None:
    # Were it to grow with its square, this would take hours.
    assert find_secret(f"{line}\n".encode() * (2_000_000 // len(line))) is None
    assert find_secret(line.encode() * (2_000_000 // len(line))) is None


@given(st.binary(max_size=3000))
def test_any_bytes_are_looked_through(content: bytes) -> None:
    assert find_secret(content) is None


@pytest.mark.parametrize(
    "path", sorted(path for path in MODELS.rglob("*") if path.is_file()), ids=lambda path: path.name
)
def test_the_bundled_models_hold_none(path: Path) -> None:
    assert find_secret(path) is None


def test_the_code_that_looks_for_secrets_holds_none() -> None:
    for path in (Path(__file__), *Path(__file__).parents[2].glob("hub/sottovoce_hub/*.py")):
        assert find_secret(path) is None, path

"""Names that the hubs know: licences, languages, tasks."""

from __future__ import annotations

import re
from importlib import resources

import yaml

from sottovoce.samples.languages import find_language


def _names(kind: str) -> frozenset[str]:
    source = resources.files("sottovoce_hub.card").joinpath("identifiers.yaml")
    return frozenset(yaml.safe_load(source.read_text(encoding="utf-8"))[kind].split())


LICENSES = _names("licenses")
"""The Hugging Face Hub's, of its documentation's page on licences, August 2026."""
MODELSCOPE_LICENSES = {
    "apache-2.0": "Apache License 2.0",
    "gpl-2.0": "GPL-2.0",
    "gpl-3.0": "GPL-3.0",
    "lgpl-2.1": "LGPL-2.1",
    "lgpl-3.0": "LGPL-3.0",
    "afl-3.0": "AFL-3.0",
    "ecl-2.0": "ECL-2.0",
    "mit": "MIT",
}
"""ModelScope's names of its own for licences; of others it takes the Hugging Face Hub's."""
TASKS = _names("tasks")
"""Values of ``pipeline_tag`` on the Hugging Face Hub, of huggingface.js, August 2026."""
MODELSCOPE_TASKS = {"automatic-speech-recognition": "auto-speech-recognition"}
"""ModelScope's names for tasks where they are others."""
RELATIONS = frozenset({"adapter", "finetune", "merge", "quantized"})
"""Relations of a model to its base model."""

_LANGUAGE = re.compile(r"[a-z]{2,3}", re.ASCII)


def license_id(name: str) -> str | None:
    """Return the Hugging Face Hub's id of a licence; ``None`` where it has none."""
    plain = " ".join(name.lower().split())
    license = {name.lower(): id for id, name in MODELSCOPE_LICENSES.items()}.get(plain, plain)
    return license if license in LICENSES else None


def language_code(name: str) -> str | None:
    """Return the ISO 639 code of a language; ``None`` for an unknown one."""
    if language := find_language(name):
        return language.code
    # Rarer languages than the table has.
    code = name.lower()
    return code if _LANGUAGE.fullmatch(code) else None


def slug(name: str) -> str:
    """Return a name in the form of tags: small letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")

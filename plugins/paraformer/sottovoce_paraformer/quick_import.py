"""FunASR without the import of all of its models, which takes longer than loading one.

``import funasr`` imports every module of the package to fill its tables of classes. Here the tables fill themselves:
a class that is asked for is imported then, and one that this module does not know makes FunASR import everything, as
it does by itself. FunASR that was imported before stays as it is.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

from sottovoce.system.process_state import ignored_warnings

_MODULES = {
    "Paraformer": "models.paraformer.model",
    "BiCifParaformer": "models.bicif_paraformer.model",
    "SeacoParaformer": "models.seaco_paraformer.model",
    "ContextualParaformer": "models.contextual_paraformer.model",
    "FsmnVADStreaming": "models.fsmn_vad_streaming.model",
    "CTTransformer": "models.ct_transformer.model",
    "CAMPPlus": "models.campplus.model",
    "SANMEncoder": "models.sanm.encoder",
    "ParaformerSANMDecoder": "models.paraformer.decoder",
    "ContextualParaformerDecoder": "models.contextual_paraformer.decoder",
    "CifPredictorV2": "models.paraformer.cif_predictor",
    "CifPredictorV3": "models.bicif_paraformer.cif_predictor",
    "FSMN": "models.fsmn_vad_streaming.encoder",
    "SpecAug": "models.specaug.specaug",
    "SpecAugLFR": "models.specaug.specaug",
    "WavFrontend": "frontends.wav_frontend",
    "wav_frontend": "frontends.wav_frontend",
    "WavFrontendOnline": "frontends.wav_frontend",
    "CharTokenizer": "tokenizer.char_tokenizer",
}
"""Modules of the classes that published models of this plugin's families name, below ``funasr``."""
_CLUSTERING = "funasr.models.campplus.cluster_backend"
"""Module that tells speakers apart, and imports scikit-learn: seconds."""
_lock = threading.RLock()


class _Table(dict[str, Any]):
    """One of FunASR's tables, which imports the class that is missing."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a class by its name."""
        try:
            return self[key]
        except KeyError:
            return default

    def __missing__(self, key: str) -> Any:
        """Import a class, and return it."""
        # Warnings of FunASR's modules are no more a user's concern here than when all are imported at once.
        with ignored_warnings(), _lock:
            if module := _MODULES.get(key):
                importlib.import_module(f"funasr.{module}")
            if key not in self:
                _import_everything()
        if key not in self:
            raise KeyError(key)
        return dict.__getitem__(self, key)


def import_funasr() -> None:
    """Import FunASR, with tables that fill themselves; do nothing if it is imported already."""
    with _lock:
        if "funasr" in sys.modules:
            return
        with _without_submodules(), _without_clustering():
            importlib.import_module("funasr.auto.auto_model")
        from funasr.register import tables

        for name in [name for name in vars(type(tables)) if name.endswith("_classes")]:
            setattr(tables, name, _Table(getattr(tables, name)))


@contextlib.contextmanager
def _without_submodules() -> Iterator[None]:
    """Let FunASR see none of its modules when it looks for all of them."""
    original = pkgutil.walk_packages

    def others(path: Any = None, prefix: str = "", onerror: Any = None) -> Any:
        return iter(()) if prefix.startswith("funasr.") else original(path, prefix, onerror)

    pkgutil.walk_packages = others
    try:
        yield
    finally:
        pkgutil.walk_packages = original


@contextlib.contextmanager
def _without_clustering() -> Iterator[None]:
    """Put a function in the place of the class that FunASR's ``AutoModel`` imports and uses with a speaker model."""
    stand_in = types.ModuleType(_CLUSTERING)
    stand_in.ClusterBackend = (  # type: ignore[attr-defined]
        lambda *args, **options: importlib.import_module(_CLUSTERING).ClusterBackend(*args, **options)
    )
    sys.modules[_CLUSTERING] = stand_in
    try:
        yield
    finally:
        del sys.modules[_CLUSTERING]
        package = sys.modules.get(_CLUSTERING.rpartition(".")[0])
        if package is not None and vars(package).get("cluster_backend") is stand_in:
            del package.cluster_backend


def _import_everything() -> None:
    """Fill the tables as ``import funasr`` does."""
    import funasr

    funasr.import_submodules("funasr")

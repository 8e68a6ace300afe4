"""Import this once, and FunASR's ``AutoModel`` loads the compressed models that Sottovoce wrote.

The only module that adds to FunASR's tables. FunASR that is not imported yet imports its other models when they are
asked for, not now::

    import sottovoce_paraformer.register
    from funasr import AutoModel

    asr = AutoModel(model="paraformer-int8", vad_model="fsmn-vad", punc_model="ct-punc")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sottovoce.system.process_state import ignored_warnings
from sottovoce_paraformer.quick_import import import_funasr

# Before FunASR's modules: the first of them that is imported would import all.
with ignored_warnings():
    import_funasr()
    from funasr.models.bicif_paraformer import model as bicif_paraformer
    from funasr.models.contextual_paraformer import model as contextual_paraformer
    from funasr.models.ct_transformer import model as ct_transformer
    from funasr.models.fsmn_vad_streaming import model as fsmn_vad
    from funasr.models.paraformer import model as paraformer
    from funasr.models.seaco_paraformer import model as seaco_paraformer
    from funasr.register import tables

from sottovoce.checkpoint import read_tensors
from sottovoce_paraformer.auto_model import restore_, without_initialization
from sottovoce_paraformer.checkpoints import WEIGHTS


class Restored:
    """A model that loads its compressed weights, strictly, from FunASR's directory."""

    def __init__(self, **options: Any) -> None:
        with without_initialization():
            super().__init__(**options)
        weights = Path(options["model_path"]) / WEIGHTS
        restore_(self, read_tensors(weights), str(weights), options)  # type: ignore[arg-type]


@tables.register("model_classes", f"{__name__}.Paraformer")
class Paraformer(Restored, paraformer.Paraformer):  # type: ignore[misc]
    """A compressed :class:`funasr.models.paraformer.model.Paraformer`."""


@tables.register("model_classes", f"{__name__}.BiCifParaformer")
class BiCifParaformer(Restored, bicif_paraformer.BiCifParaformer):  # type: ignore[misc]
    """A compressed :class:`funasr.models.bicif_paraformer.model.BiCifParaformer`."""


@tables.register("model_classes", f"{__name__}.SeacoParaformer")
class SeacoParaformer(Restored, seaco_paraformer.SeacoParaformer):  # type: ignore[misc]
    """A compressed :class:`funasr.models.seaco_paraformer.model.SeacoParaformer`."""


@tables.register("model_classes", f"{__name__}.ContextualParaformer")
class ContextualParaformer(Restored, contextual_paraformer.ContextualParaformer):  # type: ignore[misc]
    """A compressed :class:`funasr.models.contextual_paraformer.model.ContextualParaformer`."""


@tables.register("model_classes", f"{__name__}.FsmnVADStreaming")
class FsmnVADStreaming(Restored, fsmn_vad.FsmnVADStreaming):  # type: ignore[misc]
    """A compressed :class:`funasr.models.fsmn_vad_streaming.model.FsmnVADStreaming`."""


@tables.register("model_classes", f"{__name__}.CTTransformer")
class CTTransformer(Restored, ct_transformer.CTTransformer):  # type: ignore[misc]
    """A compressed :class:`funasr.models.ct_transformer.model.CTTransformer`."""

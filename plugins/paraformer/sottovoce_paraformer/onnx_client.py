"""A client of exported graphs that needs onnxruntime and NumPy, for checks."""

from __future__ import annotations

from pathlib import Path

from sottovoce.errors import SourceError
from sottovoce.formats.onnx import OnnxSession
from sottovoce.report.number_format import counted
from sottovoce_paraformer.filter_banks import FrontEnd
from sottovoce_paraformer.graph_client import GraphClient, read_tokens


class OnnxClient(GraphClient):
    """Recognizer by a graph, the metadata inside it and ``tokens.txt`` beside it."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        """Load a graph.

        Args:
            path: The graph.
            threads: Number of threads; 0 is onnxruntime's choice.

        Raises:
            SourceError: The graph has no metadata of Paraformer's, or the tokens are not as many as it says.
            OutputError: onnxruntime is not installed, or does not read the graph.
        """
        session = OnnxSession(path, threads)
        facts = session.metadata
        if missing := {"vocab_size", "lfr_window_size", "lfr_window_shift", "neg_mean", "inv_stddev"} - facts.keys():
            raise SourceError(f"{path.name}: has no metadata {min(missing)!r}; export the model again")
        tokens = read_tokens(path.parent)
        if len(tokens) != int(facts["vocab_size"]):
            raise SourceError(
                f"tokens.txt has {counted(len(tokens), 'token')}, and {path.name} {facts['vocab_size']}: they are of "
                "different models"
            )
        encoder = path.with_name(path.name.replace("model", "model_eb", 1))
        hotwords = OnnxSession(encoder) if "bias_embed" in session.inputs else None
        super().__init__(session, hotwords, FrontEnd.of_metadata(facts), tokens)

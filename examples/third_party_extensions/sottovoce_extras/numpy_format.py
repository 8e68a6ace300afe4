"""The export format ``npz``: all tensors of a model in one NumPy archive."""

from sottovoce import Format, Text
from sottovoce.errors import OutputError

FILE = "tensors.npz"


class Npz(Format):
    """One NumPy archive with the tensors by name; bfloat16 becomes float32."""

    name = "npz"
    label = Text(en="NumPy archive of the tensors", zh="包含所有张量的 NumPy 归档")
    tasks = ("transcription",)
    usage = 'import numpy\nprint(list(numpy.load("{directory}/tensors.npz")))\n'

    def write(self, model, directory):
        """Write the archive."""
        import numpy
        import torch

        tensors = {name: value for name, value in model.module.state_dict().items() if isinstance(value, torch.Tensor)}
        wide = {name: value.float() if value.dtype == torch.bfloat16 else value for name, value in tensors.items()}
        numpy.savez(directory / FILE, **{name: value.cpu().numpy() for name, value in wide.items()})

    def check(self, directory):
        """Read the archive with NumPy, and refuse numbers that are not finite."""
        import numpy

        with numpy.load(directory / FILE, allow_pickle=False) as archive:
            for name, value in archive.items():
                if not numpy.isfinite(value).all():
                    raise OutputError(f"{FILE}: {name} has numbers that are not finite")

"""Starting several processes as users do, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from forked import run_module


def torchrun(*arguments: str | Path, processes: int = 2, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script, or a module after ``-m``, in several processes on this machine.

    Args:
        arguments: The script or module, and its arguments.
        processes: Number of processes.
        variables: Environment variables to set.
    """
    paths = [path for path in sys.path if path]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": "ignore",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        **variables,
    }
    launcher = ("--standalone", "--nproc_per_node", str(processes))
    return run_module("torch.distributed.run", *launcher, *arguments, environment=environment)

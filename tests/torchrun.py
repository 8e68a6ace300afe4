"""Starting several processes as users do, by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECONDS = 300
"""Seconds after which a run counts as hanging."""


def torchrun(*arguments: str | Path, processes: int = 2, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script, or a module after ``-m``, in several processes on this machine.

    Args:
        arguments: The script or module, and its arguments.
        processes: Number of processes.
        variables: Environment variables to set.
    """
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes))
    paths = [path for path in sys.path if path]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONWARNINGS": "ignore",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        **variables,
    }
    command = [sys.executable, *launcher, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=False)

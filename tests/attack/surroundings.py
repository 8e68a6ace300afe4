"""What a load may not leave changed in its process, whether it is refused or not."""

from __future__ import annotations

import builtins
import locale
import os
import signal
import socket
import sys
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGALRM)


def state() -> dict[str, Any]:
    """Return what stands for the whole process, by what it is called in a report."""
    import torch
    from torch import nn

    initializers = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]
    return {
        "the working directory": os.getcwd(),  # noqa: PTH109  # it may be gone
        "the environment": dict(os.environ),
        "sys.path": list(sys.path),
        "standard output": (sys.stdout, sys.stderr, os.fstat(1).st_ino, os.fstat(2).st_ino),
        "the recursion limit": sys.getrecursionlimit(),
        "the hooks of sys": (sys.excepthook, sys.displayhook),
        "built-in functions": (builtins.open, builtins.print, builtins.__import__),
        "signals": [signal.getsignal(number) for number in _SIGNALS],
        "sockets": (socket.socket, socket.getaddrinfo, socket.create_connection),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the default type": torch.get_default_dtype(),
        "the default device": torch.get_default_device(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "threads": torch.get_num_threads(),
        "how modules are made": (nn.Module.register_parameter, nn.Module.__setattr__, nn.Module.__init__),
        "how weights begin": [getattr(nn.init, name) for name in initializers],
        "how weights are read": (torch.load, set(map(repr, torch.serialization.get_safe_globals()))),
        "hooks of all modules": [len(hooks) for hooks in _hooks()],
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what differs."""
    return [name for name, value in before.items() if value != after[name]]


def _hooks() -> list[Any]:
    from torch.nn.modules import module

    return [module._global_forward_hooks, module._global_forward_pre_hooks, module._global_parameter_registration_hooks]

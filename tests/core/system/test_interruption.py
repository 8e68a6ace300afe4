"""A signal that comes at a bad moment waits for the end of the moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sottovoce.system.interruption import held_back


def test_interruption_is_delayed_to_the_end_of_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with held_back():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            done.append("work")
        done.append("not this")
    assert done == ["work"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nested_blocks_delay_to_the_outermost_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), held_back():
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
        done.append("work")
    assert done == ["work"]


def test_error_of_the_block_is_the_context_of_the_interruption() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, held_back():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("work")
    assert isinstance(caught.value.__context__, ValueError)


def test_block_without_a_signal_changes_nothing() -> None:
    with held_back():
        pass
    with ThreadPoolExecutor(1) as thread, held_back():

        def other() -> bool:
            with held_back():
                return threading.current_thread() is threading.main_thread()

        assert not thread.submit(other).result()


def test_signal_without_a_handler_is_not_delayed() -> None:
    code = "import os; from sottovoce.system.interruption import *\nwith held_back(): os.kill(os.getpid(), 15)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGTERM

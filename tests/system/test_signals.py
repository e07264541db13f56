"""Signals: handled while the main thread blocks; a second termination signal ends the process."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading

from agent.system.signals import Signals

PROGRAM = """
import queue, signal, sys, threading
from agent.system.signals import Signals
inbox = queue.SimpleQueue()
signals = Signals({signal.SIGTERM: inbox.put})
for _ in range(4):
    threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
print("ready", flush=True)
print(inbox.get(), flush=True)
inbox.get()
"""


def test_signal_is_handled_while_the_main_thread_blocks_and_a_second_one_ends_the_process() -> None:
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGTERM)
                assert process.stdout.readline() == "SIGTERM\n"
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 128 + signal.SIGTERM
            finally:
                process.kill()


def test_restore_restores_the_previous_handlers() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    received: queue.SimpleQueue[str] = queue.SimpleQueue()
    signals = Signals({signal.SIGUSR1: received.put})
    os.kill(os.getpid(), signal.SIGUSR1)
    assert received.get(timeout=30) == "SIGUSR1"
    signals.restore()
    signals.restore()
    assert signal.getsignal(signal.SIGUSR1) is before
    assert "signals" not in [thread.name for thread in threading.enumerate()]
    assert signal.set_wakeup_fd(-1) == -1

"""Signals are told at once, also while the main thread waits; a second one leaves at once."""

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


def test_a_main_thread_that_waits_in_a_queue_is_told_at_once_and_a_second_signal_leaves() -> None:
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


def test_what_was_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    signals = Signals({signal.SIGUSR1: told.put})
    os.kill(os.getpid(), signal.SIGUSR1)
    assert told.get(timeout=30) == "SIGUSR1"
    signals.restore()
    signals.restore()
    assert signal.getsignal(signal.SIGUSR1) is before
    assert "signals" not in [thread.name for thread in threading.enumerate()]
    assert signal.set_wakeup_fd(-1) == -1

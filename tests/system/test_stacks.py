"""dump_stacks: where every thread is, by name."""

from __future__ import annotations

import io
import threading

from agent.system.stacks import dump_stacks


def test_dump_names_each_thread_and_its_calls() -> None:
    ready, leave = threading.Event(), threading.Event()

    def stuck_in_a_call() -> None:
        ready.set()
        leave.wait(300)

    thread = threading.Thread(target=stuck_in_a_call, name="speaker\n<0>")
    thread.start()
    stream = io.StringIO()
    try:
        assert ready.wait(60)
        dump_stacks(stream)
    finally:
        leave.set()
        thread.join(10)
    text = stream.getvalue()
    assert 'thread "MainThread" (' in text
    assert 'thread "speaker\\n<0>" (' in text
    assert "stuck_in_a_call" in text and f"{__file__}:" in text

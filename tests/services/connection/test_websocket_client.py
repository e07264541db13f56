"""The import of websocket-client: only the parts that connections use, and no effect on other users of the library."""

import subprocess
import sys

_PROGRAM = """
import sys
from agent.services.connection.websocket_client import ABNF
assert "inspect" not in sys.modules and "websocket._app" not in sys.modules
import websocket
assert websocket.ABNF is ABNF and websocket.WebSocketApp and websocket.create_connection
"""


def test_event_loop_of_the_library_is_not_imported_and_the_whole_library_still_can_be() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_library_that_is_imported_already_is_used() -> None:
    program = "import websocket\n" + _PROGRAM.replace('"inspect" not in sys.modules and', "").replace("not in", "in")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

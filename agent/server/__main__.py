"""Entry point of ``python -m agent.server``, the local speech server."""

from __future__ import annotations

import sys

from agent.server.main import main

sys.exit(main())

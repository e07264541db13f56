"""What systemd sees of the daemon: its state, its log, its directories; and what works the same without systemd."""

from agent.service.flood import Flood
from agent.service.logs import hide, set_level, set_up_logging
from agent.service.notify import Service, for_children
from agent.service.paths import Paths
from agent.service.stacks import dump_stacks

__all__ = [
    "Flood",
    "Paths",
    "Service",
    "dump_stacks",
    "for_children",
    "hide",
    "set_level",
    "set_up_logging",
]

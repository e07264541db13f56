"""The names of the topics of one device, of its fleet and of its room."""

from __future__ import annotations

from agent.system.named_tuple import NamedTuple

DEFAULT_ROOT = "voice-agent"
ALL, GROUP, ROOM, FLEET = "all", "group", "room", "fleet"
RESERVED = (ALL, GROUP, ROOM, FLEET)
"""Names that are no device: the topics of the fleet have them in the place of the name of a device."""
MAX_NAME_CHARACTERS = 64
BIRTH = "homeassistant/status"
"""Where Home Assistant publishes ``online`` after its start (its documentation, "Birth and last will messages")."""


def name_problem(name: str) -> str | None:
    """Return why a text cannot be one level of a topic, and the cure; ``None`` if it can."""
    if not name:
        return "the name is empty, expected letters and digits"
    if bad := sorted(set("/+#$") & set(name)):
        return f"the name contains {bad[0]}, which separates or selects topics, expected letters, digits, - and _"
    if not name.isprintable() or len(name) > MAX_NAME_CHARACTERS:
        return f"expected at most {MAX_NAME_CHARACTERS} printable characters"
    return None


class Topics(NamedTuple):
    """The topics of one device. Immutable.

    Args:
        root: The first level, shared by the fleet.
        name: The name of the device.
        groups: The groups that the device belongs to.
    """

    root: str
    name: str
    groups: tuple[str, ...] = ()

    def of(self, part: str) -> str:
        """Return ``ROOT/NAME/PART``."""
        return f"{self.root}/{self.name}/{part}"

    @property
    def says(self) -> tuple[str, ...]:
        """The topics with texts to be spoken: those of the device, of all devices and of the groups."""
        return (self.of("say"), f"{self.root}/{ALL}/say", *(f"{self.root}/{GROUP}/{each}/say" for each in self.groups))

    def room(self, room: str) -> str:
        """Return the topic on which the devices of a room compare their wake words."""
        return f"{self.root}/{ROOM}/{room}/wake"

    @property
    def object_id(self) -> str:
        """Root and name with the characters that Home Assistant allows in the topic of a discovery message."""
        name = f"{self.root}_{self.name}"
        plain = "".join(each if each.isascii() and (each.isalnum() or each in "_-") else "_" for each in name)
        if plain == name:
            return plain
        from zlib import crc32  # two names may differ in the replaced characters only

        return f"{plain}_{crc32(name.encode()):08x}"

"""Names the topics of one device, of its fleet and of its room."""

from __future__ import annotations

from agent.system.named_tuple import NamedTuple

DEFAULT_ROOT = "voice-agent"
ALL, GROUP, ROOM, FLEET = "all", "group", "room", "fleet"
RESERVED = (ALL, GROUP, ROOM, FLEET)
"""Names that a device must not have: topics of the fleet contain them at the level of the device name."""
MAX_NAME_CHARACTERS = 64
BIRTH = "homeassistant/status"
"""The topic on which Home Assistant publishes ``online`` after its start (documentation of Home Assistant, "Birth and
last will messages")."""


def name_problem(name: str) -> str | None:
    """Return why a name cannot be one level of a topic, with the cure; ``None`` if it can."""
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
        """The topics for texts to be spoken: that of the device, that of all devices and those of the groups."""
        return (self.of("say"), f"{self.root}/{ALL}/say", *(f"{self.root}/{GROUP}/{each}/say" for each in self.groups))

    def room(self, room: str) -> str:
        """Return the topic on which the devices of a room compare their wake words."""
        return f"{self.root}/{ROOM}/{room}/wake"

    @property
    def object_id(self) -> str:
        """The id of the device in Home Assistant.

        It consists of the root and the name. Characters that Home Assistant does not allow in the topic of a discovery
        message are replaced; then a checksum keeps the id unique.
        """
        name = f"{self.root}_{self.name}"
        plain = "".join(each if each.isascii() and (each.isalnum() or each in "_-") else "_" for each in name)
        if plain == name:
            return plain
        from zlib import crc32  # needed because two names may differ only in the replaced characters

        return f"{plain}_{crc32(name.encode()):08x}"

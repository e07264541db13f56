"""The tree of values of a document or of an environment variable."""

from __future__ import annotations

from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

MAX_BYTES = 64 * 1024
"""Maximum size of a document."""

NOT_YAML = "this is not YAML"
"""The beginning of the text of most syntax errors."""


@distinct
class Scalar(NamedTuple):
    """A single value as written in the document. Immutable.

    Attributes:
        where: ``FILE:LINE``, or the name of an environment variable.
        text: The value without quotes.
        tag: YAML's type of the value (``str``, ``int``, ``bool``, ``null``, ...); ``refused`` if the value already has
            an issue.
        is_plain: The value is written without quotes.
        has_comment: A comment follows on the line.
    """

    where: str
    text: str
    tag: str
    is_plain: bool
    has_comment: bool = False

    @property
    def is_null(self) -> bool:
        return self.tag == "null"


@distinct
class Sequence(NamedTuple):
    """A list. Not thread-safe; like the whole tree, it is owned by the thread that reads the configuration."""

    where: str
    items: list[Tree]


@distinct
class Mapping(NamedTuple):
    """A section. ``entries`` maps a name to its place (``FILE:LINE``) and value. Not thread-safe; see ``Sequence``."""

    where: str
    entries: dict[str, tuple[str, Tree]]


Tree = Scalar | Sequence | Mapping

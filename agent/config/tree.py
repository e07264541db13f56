"""The tree of values that a document or a variable is read into."""

from __future__ import annotations

from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

MAX_BYTES = 64 * 1024
"""The longest document."""

NOT_YAML = "this is not YAML"
"""The beginning of the text of each error of syntax."""


@distinct
class Scalar(NamedTuple):
    """A single value as written in the document. Immutable.

    Attributes:
        where: ``FILE:LINE``, or the name of an environment variable.
        tag: YAML's type of the value (``str``, ``int``, ``bool``, ``null``, ...), or ``refused``.
        is_plain: Written without quotes.
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
    """A list. Not thread-safe; owned by the reading thread, as the whole tree."""

    where: str
    items: list[Tree]


@distinct
class Mapping(NamedTuple):
    """A section. ``entries`` maps a name to the place of the name and the value. Not thread-safe; see ``Sequence``."""

    where: str
    entries: dict[str, tuple[str, Tree]]


Tree = Scalar | Sequence | Mapping

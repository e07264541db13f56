"""How the configuration says where a key is to be found, read without ever quoting what stands there."""

from __future__ import annotations

import re
from pathlib import Path

from agent.config.mistakes import nearest
from agent.config.scalars import Refused
from agent.config.secrets import Secret
from agent.config.tree import Mapping, Scalar, Tree


def read_secret(tree: Tree, inline_refused: str | None) -> Secret:
    """The secret that the configuration names. No mistake ever quotes what stands there: it may be the key itself.

    ``inline_refused`` says why a key may not stand in the text itself; ``None``: it may.
    """
    if isinstance(tree, Scalar):
        return _inline(tree, inline_refused)
    if not isinstance(tree, Mapping):
        raise Refused(f"a list stands here, expected {_EXPECTED}")
    names = [name for name in tree.entries if name in _NAMES]
    strange = [name for name in tree.entries if name not in _NAMES]
    if strange or len(names) != 1:
        meant = nearest(strange[0], _NAMES) if strange and len(strange[0]) <= 20 else None
        raise Refused(f"where to find the key is not said, expected {_EXPECTED}", meant)
    name = names[0]
    found = tree.entries[name][1]
    if not isinstance(found, Scalar) or found.null or found.tag == "refused" or not found.text.strip():
        raise Refused(f"{name} names nothing, expected {_EXPECTED}")
    return Secret(**{name: _reference(name, found.text)})


_NAMES = ("credential", "file", "env")
_EXPECTED = "{credential: NAME}, {file: PATH} or {env: NAME}"


def _reference(name: str, text: str) -> str:
    if name == "credential" and (not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", text) or text in (".", "..")):
        raise Refused("this cannot be the name of a credential, expected letters, digits, dots and dashes, no path")
    if name == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", text):
        raise Refused("this cannot be the name of an environment variable, expected letters, digits and underlines")
    if name == "file":
        try:
            Path(text).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Refused(f"the file {text} does not exist, expected a file that holds the key") from error
        except (OSError, ValueError):
            return text  # this user may not look there: the service perhaps may
    return text


def _inline(scalar: Scalar, inline_refused: str | None) -> Secret:
    if scalar.null and scalar.plain:
        raise Refused(f"the value is missing, expected {_EXPECTED}")
    text = scalar.text.strip()
    if not text:
        return Secret(value="")
    if inline_refused is not None:
        raise Refused(f"a key stands here in clear text, and {inline_refused}; expected {_EXPECTED}")
    if scalar.commented:
        raise Refused("a # follows the key, and YAML ends the value there: put the key in quotes")
    if not (text.isascii() and text.isprintable()):
        raise Refused("the key holds a line break, a control character or a letter outside ASCII, expected one line")
    return Secret(value=text)

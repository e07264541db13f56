"""Removes Markdown, HTML and citation marks from a streamed text."""

from __future__ import annotations

import html
import re

_BREAKING = "br|p|div|li|ul|ol|tr|td|th|table|h[1-6]|hr|details|summary|blockquote|pre"
_HTML = f"{_BREAKING}|b|i|u|s|em|strong|span|a|code|kbd|sub|sup|small|mark|del|ins|font|img|tbody|thead"
_INLINE = re.compile(
    r"(?P<escape>\\[!-/:-@\[-`{-~])"
    r"|(?P<citation>[ \t]?(?<!\[)\[\^?(?:(?:citation|source|ref|doc)[: ]?)?\d{1,3}(?:\s?[,–-]\s?\d{1,3})*\](?!\()"
    r"|[ \t]?\[\[\^?\d{1,3}\]\](?:\([^()\s]*+\)|(?!\())|[ \t]?【(?:\d|[^】†\n]{0,80}+†)[^】\n]{0,80}+】"
    r"|[ \t]?\ue200[^\ue201\n]{0,200}+\ue201|\[!(?:note|tip|important|warning|caution)\])"
    r"|!?\[(?P<text>(?:\\[^\n]|[^\[\]\n\\])*+)\](?:\((?:[^()\n]|\([^()\n]*+\))*+\)|\[[^\]\n]*+\])"
    r"|<?(?P<url>https?://[^\s<>\]]*[^\s<>\])}.,;:!?*_`'\"])>?"
    rf"|<(?P<tag>/?(?:{_HTML}))(?:\s[^<>\n]*)?/?>|<!--[^\n]{{0,500}}?-->"
    r"|(?P<entity>&(?:[a-zA-Z]{2,10}|\#\d{1,7}|\#x[0-9a-fA-F]{1,6});)"
    r"|(?P<star>\*+)|(?P<line>_+)|`+|~~+",
    re.IGNORECASE,
)
_HOST = re.compile(r"https?://(?:[^/?#@]*@)?(?:www\.)?([^/?#:\[]*)", re.IGNORECASE)
_BREAK = re.compile(rf"/?(?:{_BREAKING})", re.IGNORECASE)
# An incomplete mark at the end of a piece.
_PARTIAL = re.compile(
    r"(?:\\"
    r"|[ \t]?\[\[\^?\d{0,3}(?:\]\]?(?:\([^()\s]{0,500}+\)?)?)?|[ \t]?\ue200[^\ue201\n]{0,200}\ue201?"
    r"|(?<!\w)h(?:t(?:tps?|t)?)?|<?https?:\S*"
    r"|&[#\w]{0,10}|`+|~+|\*+|_+|!)\Z",
    re.IGNORECASE,
)
# An escape, or an incomplete link, citation or tag at the end of a piece. These may contain escapes.
_PARTIAL_WITH_ESCAPES = re.compile(
    r"\\[!-/:-@\[-`{-~]|(?P<partial>[ \t]?!?\[(?:\\[^\n]|[^\[\]\n\\]){0,300}+"
    r"(?:\\|\](?:\((?:[^()\n]|\([^()\n]*+\)?+){0,500}+|\[[^\]\n]{0,80}+)?+)?+\Z"
    r"|[ \t]?【[^】\n]{0,80}\Z|<(?:!-{0,2}[^<>\n]{0,200}|/?(?:[a-z][^<>\n]{0,200})?)?\Z)",
    re.IGNORECASE,
)
_OPENED = re.compile(r"(?:<!--(?:(?!-->)[^\n]){0,500}+|[ \t]?\ue200[^\ue201\n]{0,200}+)\Z")
_FENCE = re.compile(r"[ \t]*(`{3,}+(?=[^`\n]*+\n)|~{3,}+)[^\n]*+\n")
_RULE = re.compile(r"[ \t]*([-*_=])(?:[ \t]*\1){2,}[ \t]*(?:\n|\Z)|[ \t]*[=-]{2,}[ \t]*(?:\n|\Z)")
_ROW = re.compile(r"[ \t]*\|[^\n]*\|[ \t]*(?:\n|\Z)|[ \t]*:?-{3,}:?[ \t]*(?:\|[ \t]*:?-{3,}:?[ \t]*)+(?:\n|\Z)")
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}(?:[ \t]+|(?=\n|\Z))")
_QUOTE = re.compile(r"[ \t]*>[ \t]?")
_BULLET = re.compile(r"[ \t]*[-*+•·‣◦⁃][ \t]+(?:\[[ xX]\][ \t]+)?")
_NUMBER = re.compile(r"[ \t]*(\d{1,3})[.)][ \t]+")
# The start of a line that may still become a fence, rule, table row, heading, quote or list item.
_UNDECIDED = re.compile(
    r"[ \t]*(?:(?:(?:[-*_=][ \t]*)+|[+•·‣◦⁃>][ \t]*)(?:\[[ xX]?\]?[ \t]*)?|\#{1,6}[ \t]*|\d{1,3}[.)]?[ \t]*"
    r"|`{1,2}|`{3,}[^`\n]*|~+|~{3,}[^\n]*|\|[^\n]*|:?-{3,}[-:| \t]*)?\Z"
)
_MAX_LINE_CHARACTERS = 1000
"""Limit for the text that is held back because a mark in it may be incomplete."""


class MarkupFilter:
    """Removes the markup from a text. The result does not depend on how the text is divided into pieces.

    The marks of emphasis, headings, bullets, links, citations and HTML tags are removed. A URL is reduced to its host.
    Blocks of code and tables are left out. A mark with a meaning outside Markdown is kept (``2 * 3``, ``snake_case``).
    Not thread-safe; owned by the thread that feeds it.

    Args:
        omitted: The sentence that replaces a block of code or a table; empty for none.
    """

    def __init__(self, omitted: str = "") -> None:
        self._omitted = f"\n{omitted}\n\n" if omitted else "\n"
        self._buffer = ""
        self._is_line_start = True
        self._fence = ""  # inside a block of code: the mark that ends it
        self._is_table = False
        self._is_heading = False
        self._last = "\n"  # the last character before the buffer

    def feed(self, piece: str) -> str:
        """Append text; return the words that later text cannot change."""
        self._buffer += piece
        return self._words(is_final=False)

    def pause(self) -> str:
        """Return the replacement of the marks that are held back. Call it if no text arrives for some time."""
        # A mark after white space opens emphasis or code, so that it does not belong to the end of a sentence.
        if self._is_line_start or self._fence or self._buffer.strip("!*_`~") or self._last.isspace():
            return ""
        words = _convert(self._buffer, self._last, " ")
        self._last, self._buffer = self._buffer[-1:] or self._last, ""
        return words

    def flush(self) -> str:
        """Return the rest of the words, and start with a new text."""
        rest = self._words(is_final=True)
        self._buffer, self._is_line_start, self._fence, self._last = "", True, "", "\n"
        self._is_table = self._is_heading = False
        return rest

    def _words(self, *, is_final: bool) -> str:
        words: list[str] = []
        while self._buffer:
            if self._fence:
                if not self._skip_code():
                    break
            elif self._is_line_start:
                is_undecided = not is_final and len(self._buffer) < _MAX_LINE_CHARACTERS
                if is_undecided and _UNDECIDED.match(self._buffer):
                    break
                words.append(self._block())
            else:
                inline = self._inline(is_final)
                if inline is None:
                    break
                words.append(inline)
        return "".join(words)

    def _skip_code(self) -> bool:
        """Drop one line of a block of code; return ``False`` if the line is incomplete."""
        line, end, rest = self._buffer.partition("\n")
        if not end:
            self._buffer = line[-_MAX_LINE_CHARACTERS:]
            return False
        line = line.strip(" \t>")  # inside a quote, each line begins with >
        if line.startswith(self._fence) and not line.strip(self._fence[0]):
            self._fence = ""
        self._buffer = rest
        return True

    def _block(self) -> str:
        """Remove the mark at the start of a line from the buffer; return its replacement."""
        was_table, self._is_table = self._is_table, False
        if fence := _FENCE.match(self._buffer):
            self._buffer, self._fence = self._buffer[fence.end() :], fence[1]
            return self._omitted
        if row := _ROW.match(self._buffer):
            self._buffer, self._is_table = self._buffer[row.end() :], True
            return "" if was_table else self._omitted
        if rule := _RULE.match(self._buffer):
            self._buffer = self._buffer[rule.end() :]
            return "\n"
        if quote := _QUOTE.match(self._buffer):
            self._buffer = self._buffer[quote.end() :]
            return ""
        self._is_line_start = False
        if heading := _HEADING.match(self._buffer):
            self._buffer, self._is_heading = self._buffer[heading.end() :], True
            return "\n"
        if number := _NUMBER.match(self._buffer):
            self._buffer = self._buffer[number.end() :]
            self._is_line_start = self._buffer.startswith(("`", "~"))  # an item may begin with a block of code
            return f"\n{number[1]}. "
        if bullet := _BULLET.match(self._buffer):
            self._buffer = self._buffer[bullet.end() :]
            self._is_line_start = self._buffer.startswith(("`", "~"))
            return "\n"
        return ""

    def _inline(self, is_final: bool) -> str | None:
        """Return the words up to the end of the line, or up to an incomplete mark; ``None`` if there are none."""
        line, end, rest = self._buffer.partition("\n")
        if not (end or is_final):
            certain = _certain_length(line.rstrip(" \t#") if self._is_heading else line)
            line, rest = line[:certain], line[certain:]
            if not line:
                return None
        if self._is_heading and end:
            line = line.rstrip(" \t#")
        words = _convert(line, self._last, rest[:1] if not end else "\n")
        self._last = line[-1:] or self._last
        self._buffer = rest
        if end:
            words += "\n\n" if self._is_heading else "\n"
            self._is_line_start, self._is_heading, self._last = True, False, "\n"
        return words


def _certain_length(line: str) -> int:
    """Return the length of an incomplete line up to the first mark that may be incomplete."""
    if opened := _OPENED.search(line):
        line = line[: opened.start()]  # ignore the marks inside the comment or citation
    start = open_start = 0
    certain = len(line)
    for match in _INLINE.finditer(line):
        if match.lastgroup == "citation" and match.end() == len(line):
            certain = match.start()  # a bracket may follow, which makes it a link
        elif match.lastgroup in ("citation", "text", "tag", "entity"):
            start = open_start = match.end()
        elif match.lastgroup == "escape":
            start = match.end()
    # An incomplete mark longer than the limit is not held back, and a search of the whole line takes quadratic time.
    if partial := _PARTIAL.search(line, max(start, len(line) - _MAX_LINE_CHARACTERS - 1)):
        certain = min(certain, partial.start())
    for match in _PARTIAL_WITH_ESCAPES.finditer(line, open_start):
        if match["partial"] is not None:
            certain = min(certain, match.start())
    return certain if len(line) - certain <= _MAX_LINE_CHARACTERS else len(line)


def _convert(line: str, before: str, after: str) -> str:
    """Remove the marks in ``line``. ``before`` and ``after`` are the adjacent characters; empty counts as a space."""
    text = f"{before or ' '}{line}{after or ' '}"
    words, position = [], 1
    for match in _INLINE.finditer(text, 1, len(text) - 1):
        words += [text[position : match.start()], _replacement(match)]
        position = match.end()
    return "".join([*words, text[position : len(text) - 1]])


def _replacement(match: re.Match[str]) -> str:
    """Return the replacement of one mark."""
    before, after = match.string[match.start() - 1], match.string[match.end()]
    kind = match.lastgroup
    if kind == "escape":
        return "" if match[0][1] in "()[]" else match[0][1]
    if kind == "text":
        return _convert(match["text"], "", "")
    if kind == "url":
        host = _HOST.match(match["url"])  # urlsplit raises ValueError for http://[ and for some characters
        return host[1].lower() if host else ""
    if kind == "tag":
        return " " if _BREAK.fullmatch(match["tag"]) else ""
    if kind == "entity":
        return html.unescape(match[0]).replace("\xa0", " ")
    if kind in ("star", "line"):
        is_free = before.isspace() and after.isspace()
        is_inside = before.isalnum() and after.isalnum() and (kind == "line" or len(match[0]) == 1 or before.isdigit())
        return match[0] if is_free or is_inside else ""
    return ""

# SPDX-License-Identifier: GPL-2.0-only
"""Words of others in texts of ours: what a guest, a module, a file or a bundle calls itself. Pure.

A control character in them ends a comment, a line or a table, or is obeyed by a terminal.
"""

from __future__ import annotations

import re
import shlex

# Controls; what is not seen or turns a line around (soft hyphen, zero widths, bidirectional
# marks); line and paragraph separators; what UTF-8 cannot carry.
_UNSEEN = (
    "\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
)
_NOT_IN_A_LINE = re.compile(f"[\x00-\x1f{_UNSEEN}]")
_NOT_IN_TEXT = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSEEN}]")
_MARKDOWN = re.compile(r"[\\`*<>\[\]|]")


def one_line(text: str) -> str:
    """For a comment, a title, a message: control characters as \\xNN."""
    return _NOT_IN_A_LINE.sub(_coded, text)


def lines(text: str) -> str:
    """The same of text in which newline and tab may be."""
    return _NOT_IN_TEXT.sub(_coded, text)


def shell(text: str) -> str:
    """One word for a shell. A newline in it stays within the quotes."""
    return shlex.quote(lines(text))


def markdown(text: str) -> str:
    """Plain words in Markdown: no link, no HTML, no code, no new cell of a table."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def code(text: str) -> str:
    """`text` in Markdown, whatever backticks are in it."""
    text = one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if len(fence) > 1 else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _coded(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"

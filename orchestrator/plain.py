# SPDX-License-Identifier: GPL-2.0-only
"""Text of others made fit to be shown, and to stand in texts of ours: on a page, on a terminal, in
a CI's log, in a script. Pure.

A guest, a module's file and a bundle say what they like. Escaping is the business of templates
(autoescape); here is what escaping does not do: a control character ends a comment, a line or a
table, or is obeyed by a terminal.
"""

from __future__ import annotations

import re
import shlex

REPLACEMENT = "\ufffd"

# What HTML cannot carry (controls but tab and newline, surrogates, noncharacters), and what would
# show a line in another order than it has (bidirectional overrides and isolates).
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    "\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
# What a CI takes for a command in what a job prints: GitHub "::error::" behind blanks at most, and
# "##[error]" anywhere, Azure "##vso[".
_COLONS = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_HASHES = re.compile(r"#(?=#\w*\[)")
# Controls; what is not seen or turns a line around (soft hyphen, zero widths, bidirectional
# marks); line and paragraph separators; what UTF-8 cannot carry.
_UNSEEN = (
    "\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
)
_NOT_IN_A_LINE = re.compile(f"[\x00-\x1f{_UNSEEN}]")
_NOT_IN_TEXT = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSEEN}]")
SHORT_CHARACTERS = 2000  # some twenty lines
KEPT_CHARACTERS = 256 << 10  # at either end of a long text
_MARKDOWN = re.compile(r"[\\`*<>\[\]|]")


def clean(text: str) -> str:
    """The text with a replacement character for each that a page cannot show."""
    return _UNFIT.sub(REPLACEMENT, text)


def printable(text: str) -> str:
    """The text as a terminal may get it: no control character but tab and newline, and nothing that
    a CI would carry out."""
    return _HASHES.sub("# ", _COLONS.sub(r"\1: ", clean(text)))


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


def short(text: str) -> str:
    """A text of others with its end left out where it is long: the whole of it is elsewhere."""
    if len(text) <= SHORT_CHARACTERS:
        return text
    return f"{text[:SHORT_CHARACTERS]}… ({len(text)} characters, the rest is in results.json)"


def excerpt(text: str, each: int = KEPT_CHARACTERS) -> str:
    """A long text's beginning and end."""
    left_out = len(text) - 2 * each
    if left_out < 100:  # as much as the line about it
        return text
    return f"{text[:each]}\n[{left_out} characters are left out here]\n{text[-each:]}"

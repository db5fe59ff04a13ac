# SPDX-License-Identifier: GPL-2.0-only
"""Good samples -> inputs that are almost good: the same seed gives the same ones.

Each way knows the shape of what it changes: bytes, lines, the tree of a JSON or TOML file, the
structures of an ELF file.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

Way = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
LIMIT = 1 << 20  # bytes of an input; what is larger on purpose is made by code (readers.py)

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1)
TOKENS = (
    *(b"", b"\0", b"\n", b"\r\n", b"\t", b" " * 200, b"\xff", b"\xed\xb2\x80", b"\xe2\x80\xae"),
    *(b"\x1b[31m", b'"', b"\\", b"/", b"..", b"../" * 20, b"%s", b"-", b"@@", b"[" * 300),
    *(b"(" * 300, b"9" * 20, b"9" * 5000, b"-1", b"1e999", b"NaN", b"x" * 5000, b"\xc2\xb2"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 1e300, 10**18, 10**30, float("nan"), float("inf"), -(10**400)),
    *("", "x", "..", "/", "a\nb", "\x1b[2J\x00", "\u202e", "\ud800", "x" * 5000, "9" * 5000, "nan"),
    *([], {}, [[]], {"": ""}, ["x"], [1, 2, 3], {"a": {"b": []}}),
)


def flipped(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Some bytes are others."""
    made = bytearray(data)
    for _ in range(random.randint(1, 8)):
        if made:
            made[random.randrange(len(made))] = random.randrange(256)
    return bytes(made)


def cut(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A piece is gone, or is there twice or often, or the end is missing."""
    one, two = sorted(random.randrange(len(data) + 1) for _ in range(2))
    times = random.choice((0, 2, 2, 50))
    return data[:one] if times == 50 and two - one > 500 else data[:one] + data[one:two] * times


def inserted(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice(TOKENS) + data[at:]


def spliced(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The beginning of one and the end of another."""
    other = random.choice(others)
    return data[: random.randrange(len(data) + 1)] + other[random.randrange(len(other) + 1) :]


def relined(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Lines are gone, twice, elsewhere, another's, or have something in them."""
    lines = data.split(b"\n")
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                del lines[at]
            case 1:
                lines[at:at] = [lines[at]] * random.choice((1, 1, 100))
            case 2:
                lines.insert(random.randrange(len(lines)), lines[at])
            case 3:
                lines.insert(at, random.choice(random.choice(others).split(b"\n")))
            case _:
                lines[at] = inserted(random, lines[at], others)
        lines = lines or [b""]
    return b"\n".join(lines)


def renumbered(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A number of the text is another."""
    found = [at for at in range(len(data)) if data[at : at + 1].isdigit()]
    if not found:
        return inserted(random, data, others)
    at = random.choice(found)
    number = random.choice((b"0", b"-1", b"1", b"99999999999", b"9" * 5000, b"4294967296", b"1.5"))
    return data[:at] + number + data[at + 1 :]


# --- trees: JSON, TOML ---------------------------------------------------------------------------


def regrown(random: random.Random, tree: Any, others: Sequence[bytes]) -> Any:
    """A tree of which a few values, keys or branches are others."""
    for _ in range(random.randint(1, 3)):
        places = list(_places(tree)) if isinstance(tree, dict | list) else []
        if not places:
            return random.choice(VALUES)
        holder, key = random.choice(places)
        match random.randrange(6):
            case 0 | 1 | 2:
                holder[key] = random.choice(VALUES)
            case 3:
                del holder[key]
            case 4:
                _, other = random.choice(places)
                value = holder[key]
                if isinstance(holder, dict):
                    holder[str(other)] = value
                else:
                    holder.extend([value] * random.choice((1, 2, 50)))
            case _:
                other_holder, other_key = random.choice(places)
                holder[key] = json.loads(json.dumps(other_holder[other_key]))
    return tree


def _places(tree: Any) -> Any:
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _places(tree[key])


def json_tree(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    tree = regrown(random, json.loads(data), others)
    text = json.dumps(tree, ensure_ascii=random.random() < 0.5)
    return text.encode(errors="surrogatepass")


def toml_tree(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    import tomllib  # the writer below has to agree with a reader, and there is none but this

    return _toml(regrown(random, tomllib.loads(data.decode()), others)).encode(errors="replace")


def _toml(tree: Any) -> str:
    if not isinstance(tree, dict):
        return f"value = {_inline(tree)}\n"
    return "".join(f"{_inline(str(key))} = {_inline(value)}\n" for key, value in tree.items())


def _inline(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case dict():
            return (
                "{" + ", ".join(f"{_inline(str(k))} = {_inline(v)}" for k, v in value.items()) + "}"
            )
        case list():
            return "[" + ", ".join(map(_inline, value)) + "]"
        case int() | float():
            return str(value)
        case None:
            return '"None"'
        case _:
            escaped = json.dumps(str(value).encode(errors="replace").decode())
            return escaped.replace("\x7f", "\\u007f")


# --- ELF -----------------------------------------------------------------------------------------


def elf_fields(random: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Fields of the header, of section headers, of anything aligned, hold numbers that matter."""
    made = bytearray(data)
    order = "<" if data[5:6] == b"\1" else ">"
    (table,) = struct.unpack_from(order + "Q", data.ljust(64, b"\0"), 40)
    for _ in range(random.randint(1, 4)):
        start, end = random.choice(((16, 64), (table, len(made)), (0, len(made))))
        if start >= end:
            continue
        size, code = random.choice(((2, "H"), (4, "I"), (8, "Q")))
        at = random.randrange(start, end) // size * size
        if at + size <= len(made):
            near = random.choice((*NUMBERS, len(made), len(made) - at, random.randrange(64)))
            struct.pack_into(order + code, made, at, near % (1 << 8 * size))
    return bytes(made)


BYTES = (flipped, cut, inserted, spliced)
LINES = (*BYTES, relined, relined, renumbered)
JSON = (json_tree, json_tree, json_tree, json_tree, flipped, cut, renumbered)
TOML = (toml_tree, toml_tree, toml_tree, relined, relined, renumbered, flipped)
ELF = (elf_fields, elf_fields, elf_fields, flipped, cut, spliced)


def inputs(seed: str, samples: Sequence[bytes], ways: Sequence[Way]) -> Any:
    """Without end: mostly one change of a sample, now and then several."""
    chance = random.Random(seed)
    while True:
        data = chance.choice(samples)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            try:
                data = chance.choice(ways)(chance, data, samples)
            except (ValueError, RecursionError):  # no tree any more
                data = inserted(chance, data, samples)
        yield data[:LIMIT]

# SPDX-License-Identifier: GPL-2.0-only
"""Which relocation types a kernel's apply_relocate_add() handles, read from its C source. Pure.

Two ways of writing it are known: `case R_TYPE:` labels, in apply_relocate_add() or in what it calls
in the same files, and a table `[R_TYPE] = handler`. A type whose code only complains and returns an
error is not handled. What only other functions know (those that count stubs before a module is laid
out) does not count.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.build import kconfigtree
from orchestrator.build.kconfigtree import Config

ENTRY = "apply_relocate_add"
# arch/SRCARCH/...: where the numbers are, and the code; *_32.c is for kernels of 32 bits, and none
# of ours is
HEADERS = ("include/uapi/asm/elf.h", "include/asm/elf.h")
SOURCES = "kernel/module*.c"
NOT_OURS = "_32.c"


@dataclass(frozen=True, slots=True)
class Handled:
    """A relocation type that apply_relocate_add() takes."""

    name: str  # as the kernel has it
    number: int
    place: str  # arch/x86/kernel/module.c:185
    idle: bool  # nothing is written for it


@dataclass(frozen=True, slots=True)
class _Block:
    """A function's body, or a table's."""

    file: str
    line: int  # of its first line
    text: str
    ends: tuple[int, ...]  # where in it each line ends


_DEFINED = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(R_\w+)[ \t]+(\w+)", re.MULTILINE)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}|0x[0-9a-fA-F]{1,8}")  # ELF64_R_TYPE has 32 bits


def numbers(headers: Mapping[str, str]) -> Mapping[str, int]:
    """R_NAME -> number, of `#define R_NAME 5` and `#define R_NAME R_OTHER`."""
    found: dict[str, int] = {}
    for text in headers.values():
        for name, value in _DEFINED.findall(text):
            if value in found:
                found[name] = found[value]
            elif _NUMBER.fullmatch(value):
                found[name] = int(value, 0)
    return found


def handled(
    sources: Mapping[str, str], headers: Mapping[str, str], config: Config | None
) -> tuple[Handled, ...]:
    """By number. sources, headers: path -> text. config: of the kernel; None keeps every #if."""
    known = numbers(headers)
    blocks: dict[str, list[_Block]] = {}
    for file, text in sources.items():
        for name, block in _blocks(file, _preprocessed(_uncommented(text), config)):
            blocks.setdefault(name, []).append(block)
    idle = {name for name, found in blocks.items() if all(map(_idle, found))}
    refusing = {name for name, found in blocks.items() if all(map(_refusing, found))}
    made: dict[int, Handled] = {}
    for block in _reached(blocks):
        for label in (*_table(block, known), *_cases(block, known)):
            if label.code in refusing or label.refuses:
                if label.overrides:
                    made.pop(label.type.number, None)
                continue
            still = label.type.idle or label.code in idle
            before = made.get(label.type.number)
            if before is None or before.idle:
                made[label.type.number] = Handled(
                    label.type.name, label.type.number, label.type.place, still
                )
    return tuple(made[number] for number in sorted(made))


# --- the preprocessor's part -------------------------------------------------------------------


def _uncommented(text: str) -> str:
    """Without comments and what is in strings, every line still where it was."""
    # what is never closed goes on to the end: else each one would be looked for there again
    found = re.compile(r'/\*.*?(?:\*/|\Z)|//[^\n]*|"(?:\\.|[^"\\])*(?:"|\\?\Z)', re.DOTALL)
    return found.sub(lambda m: '""' if m[0][0] == '"' else "\n" * m[0].count("\n"), text)


def _preprocessed(text: str, config: Config | None) -> str:
    """Without the lines that `#if` leaves out for this configuration; those of a condition that
    cannot be told stay, all of its branches."""
    out: list[str] = []
    # of each open #if: is the present branch compiled? may a later one be?
    taken: list[bool | None] = []
    later: list[bool] = []
    for line in text.splitlines():
        word = re.match(r"\s*#\s*(ifdef|ifndef|if|elif|else|endif)\b\s*(.*)", line)
        if word is None:
            out.append("" if line.lstrip().startswith("#") or False in taken else line)
            continue
        out.append("")
        directive, rest = word[1], word[2]
        if directive in ("if", "ifdef", "ifndef"):
            taken.append(_condition(directive, rest, config))
            later.append(taken[-1] is not True)
        elif directive == "endif" and taken:
            taken.pop()
            later.pop()
        elif taken:
            holds = _condition("if", rest, config) if directive == "elif" else True
            unsure = taken[-1] is None and holds is True
            taken[-1] = (None if unsure else holds) if later[-1] else False
            later[-1] &= taken[-1] is not True
    return "\n".join(out)


def _condition(directive: str, rest: str, config: Config | None) -> bool | None:
    if rest in ("0", "1"):
        return rest == "1"
    if directive != "if":
        rest = f"defined({rest})"
    plain = re.sub(r"(?:defined|IS_ENABLED)\s*(?:\(\s*)?CONFIG_(\w+)(?:\s*\))?", r"\1", rest)
    if config is None or not re.fullmatch(r"[A-Z0-9_!&|()\s]+", plain) or "defined" in plain:
        return None
    held = kconfigtree.evaluate(plain, config)
    return (not held if directive == "ifndef" else held) if held is not None else None


# --- blocks ------------------------------------------------------------------------------------


def _blocks(file: str, text: str) -> Iterator[tuple[str, _Block]]:
    """(name, body) of each function and each table, by the kernel's own layout: a body begins and
    ends in the first column, a table's begins with "= {"."""
    declared: list[str] = []
    body: list[str] | None = None
    name, began = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if body is not None:
            if line.startswith("}"):
                ends = itertools.accumulate((len(each) + 1 for each in body), initial=-1)
                yield name, _Block(file, began, "\n".join(body), tuple(ends)[1:])
                body, declared = None, []
            else:
                body.append(line)
            continue
        table = line.rstrip().endswith("{") and "=" in line
        if line.startswith("{") or table:
            whole = " ".join([*declared, line])
            found = re.search(r"\b(\w+)\s*\[" if table else r"\b(\w+)\s*\(", whole)
            name, began, body = found[1] if found else "", number + 1, []
        elif line.startswith("}") or line.rstrip().endswith((";", "{")) or not line.strip():
            declared = []
        else:
            declared.append(line)


def _reached(blocks: Mapping[str, list[_Block]]) -> Iterator[_Block]:
    """apply_relocate_add() and what it uses, in turn; tables before code that may know better."""
    seen: dict[str, None] = {}
    waiting = [ENTRY]
    for name in waiting:  # it grows meanwhile
        if name in seen or name not in blocks:
            continue
        seen[name] = None
        for block in blocks[name]:
            waiting += re.findall(r"\b[a-z_]\w*\b", block.text)
    found = [block for name in seen for block in blocks[name]]
    yield from sorted(
        found, key=lambda block: not re.search(r"^[ \t]*\[R_", block.text, re.MULTILINE)
    )


# What returns nothing but an error, having said something; what does nothing at all.
_COMPLAINT = r"(?:(?:pr_\w+|printk)\s*\([^;]*\)\s*;\s*)*"
_REFUSES = re.compile(rf"\s*{_COMPLAINT}return\s+-E\w+\s*;\s*")
_IDLE = re.compile(r"\s*(?:\w+ = 0;\s*)?(?:break|continue|return 0)\s*;\s*")


def _refusing(block: _Block) -> bool:
    return _REFUSES.fullmatch(block.text) is not None


def _idle(block: _Block) -> bool:
    return _IDLE.fullmatch(block.text) is not None


@dataclass(frozen=True, slots=True)
class _Label:
    """A place that names a type."""

    type: Handled
    code: str = ""  # a table's handler
    refuses: bool = False
    overrides: bool = False  # it takes the place of what stood before


_RANGE = r"(R_\w+)\s*(?:\.\.\.\s*(R_\w+)\s*)?"


def _types(
    first: str, last: str, known: Mapping[str, int], block: _Block, at: int, idle: bool = False
) -> Iterator[Handled]:
    """Each type of `R_FIRST ... R_LAST`, or R_FIRST alone; `at`: where in the block."""
    if first not in known or (last and last not in known):
        return
    place = f"{block.file}:{block.line + bisect.bisect_left(block.ends, at)}"
    yield Handled(first, known[first], place, idle)
    if last:  # a range may be of billions: what it has in it is looked for among the known
        between = {
            n: name for name, n in reversed(tuple(known.items())) if known[first] < n <= known[last]
        }
        yield from (Handled(name, n, place, idle) for n, name in sorted(between.items()))


def _table(block: _Block, known: Mapping[str, int]) -> Iterator[_Label]:
    """The entries of a table, in turn: a later one counts."""
    pattern = rf"\[{_RANGE}\]\s*=\s*(?:\{{\s*(?:\.\w+\s*=\s*)?)?(\w+)"
    for found in re.finditer(pattern, block.text):
        for each in _types(found[1], found[2] or "", known, block, found.start()):
            yield _Label(each, found[3], overrides=True)


def _cases(block: _Block, known: Mapping[str, int]) -> Iterator[_Label]:
    """The `case` labels, with what is done for them."""
    code, end = "", len(block.text)
    refuses = idle = False
    made: list[_Label] = []
    for label in reversed(list(re.finditer(rf"\bcase\s+{_RANGE}:|\bdefault\s*:", block.text))):
        own, end = block.text[label.end() : end], label.start()
        if own.strip() and own != code:  # else one label behind another
            code = own
            refuses, idle = (p.fullmatch(code) is not None for p in (_REFUSES, _IDLE))
        if label[1]:
            types = _types(label[1], label[2] or "", known, block, label.start(), idle)
            made += [_Label(each, refuses=refuses) for each in types]
    yield from reversed(made)

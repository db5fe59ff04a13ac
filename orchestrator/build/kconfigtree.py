# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's Kconfig files say of an option, and why it came out as it did. Pure.

As far as that takes: `config` and `menuconfig` entries with their prompt, `depends on`, `select`,
`default`; the `if` and `menu` blocks around them; `source` (Documentation/kbuild/
kconfig-language.rst). Values are those of a final `.config`: the truth; the files tell why.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Read = Callable[[str], str | None]  # a file of the tree by its path; None: it is not there
Config = Mapping[str, str]  # option -> value; one that is missing is off

TOP = "Kconfig"
LIVEPATCH = "kernel/livepatch/Kconfig"  # each architecture that has livepatch sources it itself
DEPTH = 5  # how far a reason is followed to the reason behind it


@dataclass(frozen=True, slots=True)
class Select:
    """`config BY ... select TARGET if CONDITION`"""

    by: str
    target: str
    condition: str  # "" for none
    place: str  # arch/x86/Kconfig:237


@dataclass(frozen=True, slots=True)
class Entry:
    """One `config` block; an option may have several."""

    name: str
    place: str
    prompt: bool  # it can be asked for
    depends: tuple[str, ...]  # those of the blocks around it first
    defaults: tuple[str, ...]  # `default X if Y` as "X if Y"
    tristate: bool = False  # it can be a module


@dataclass(slots=True)
class KconfigTree:
    """Everything that one architecture's configuration reads."""

    srcarch: str  # make's SRCARCH, arch/SRCARCH
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    selects: dict[str, list[Select]] = field(default_factory=dict)  # by target
    files: set[str] = field(default_factory=set)
    unsourced: frozenset[str] = frozenset()  # options that only a file has which nothing reads


_SOURCE = re.compile(r'^source "([^"]+)"')
_ENTRY = re.compile(r"^(?:menu)?config (\w+)$")
_WORD = re.compile(r"^(\w+)\b ?(.*)$")
# what ends an entry
_BETWEEN = (
    *("config", "menuconfig", "source", "if", "endif", "menu", "endmenu", "choice", "endchoice"),
    *("comment", "mainmenu"),
)
_TYPES = ("bool", "tristate", "string", "int", "hex", "prompt")


def read(read_file: Read, srcarch: str) -> KconfigTree:
    """The Kconfig files of a tree from the top one on, and livepatch's, sourced or not."""
    tree = KconfigTree(srcarch)
    _file(read_file, TOP, (), tree)
    known = set(tree.entries)
    if LIVEPATCH not in tree.files:
        _file(read_file, LIVEPATCH, (), tree)
    tree.unsourced = frozenset(tree.entries) - known
    return tree


def defined(texts: Iterable[str]) -> frozenset[str]:
    """The options that these Kconfig files define, whatever architecture reads them. An old name of
    one (`transitional`) is none: it is read and never written."""
    found: list[str] = []
    for line in (line for text in texts for _, line in _statements(text)):
        if match := _ENTRY.match(line):
            found.append(match[1])
        elif line == "transitional" and found:
            found.pop()
    return frozenset(found)


def _file(read_file: Read, name: str, outer: tuple[str, ...], tree: KconfigTree) -> None:
    text = read_file(name)
    if text is None or name in tree.files:
        return
    tree.files.add(name)
    blocks: list[tuple[str, tuple[str, ...]]] = []  # (how it ends, what it demands)
    at: _Draft | None = None
    for number, line in _statements(text):
        around = (*outer, *(each for _, wanted in blocks for each in wanted))
        word = _WORD.match(line)
        if word is None:
            continue
        head, rest = word[1], word[2]
        if head in _BETWEEN and at is not None:
            at.keep(tree)
            at = None
        if found := _SOURCE.match(line):
            inner = re.sub(r"\$\(?SRCARCH\)?", tree.srcarch, found[1])
            _file(read_file, inner, around, tree)
        elif found := _ENTRY.match(line):
            at = _Draft(found[1], f"{name}:{number}", list(around))
        elif head in ("if", "menu", "choice"):
            blocks.append((f"end{head}", (rest,) if head == "if" else ()))
        elif head in ("endif", "endmenu", "endchoice"):
            if blocks and blocks[-1][0] == head:
                blocks.pop()
        elif at is not None:
            at.take(head, rest, f"{name}:{number}", tree)
        elif blocks and head == "depends":  # of the menu itself
            end, wanted = blocks[-1]
            blocks[-1] = (end, (*wanted, rest.removeprefix("on").strip()))
    if at is not None:
        at.keep(tree)


@dataclass(slots=True)
class _Draft:
    """An entry that is being read."""

    name: str
    place: str
    depends: list[str]
    defaults: list[str] = field(default_factory=list)
    prompt: bool = False
    tristate: bool = False

    def take(self, head: str, rest: str, place: str, tree: KconfigTree) -> None:
        """One of its lines: the word it begins with, and what follows."""
        self.tristate |= head in ("tristate", "def_tristate")
        if head in _TYPES:
            self.prompt |= rest.startswith('"')
        elif head == "depends":
            self.depends.append(rest.removeprefix("on").strip())
        elif head == "default" or head.startswith("def_"):
            self.defaults.append(rest)
        elif head == "select":
            target, _, condition = rest.partition(" if ")
            made = Select(self.name, target.strip(), condition.strip(), place)
            tree.selects.setdefault(made.target, []).append(made)

    def keep(self, tree: KconfigTree) -> None:
        said = (tuple(self.depends), tuple(self.defaults))
        made = Entry(self.name, self.place, self.prompt, *said, self.tristate)
        tree.entries.setdefault(self.name, []).append(made)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line number, line) without comments and help texts, continued lines joined."""
    indent: int | None = None  # of a help text; -1 before its first line
    whole, began = "", 0
    for number, raw in enumerate(text.expandtabs().splitlines(), 1):
        if indent is not None:
            own = len(raw) - len(raw.lstrip())
            if not raw.strip() or own >= max(indent, 1):
                indent = own if indent < 0 and raw.strip() else indent
                continue
            indent = None
        began = began if whole else number
        if raw.endswith("\\"):
            whole += raw[:-1]
            continue
        line, whole = " ".join((whole + raw).split()), ""
        if line in ("help", "---help---"):
            indent = -1
        elif line and not line.startswith("#"):
            yield began, _without_comment(line)


def _without_comment(line: str) -> str:
    return line if '"' in line or "'" in line else line.partition(" #")[0]


# --- expressions -------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(\$\((?:[^()]|\([^()]*\))*\)|&&|\|\||!=|[!()=<>]=?|\"[^\"]*\"|'[^']*'|[\w./-]+)"
)


def evaluate(expression: str, config: Config) -> bool | None:
    """Whether it holds, "m" being as good as "y"; None when that cannot be told: it asks the
    compiler, or is no expression that we can read."""
    tokens = _TOKEN.findall(" ".join(expression.split()))
    if "".join(tokens) != re.sub(r"\s+", "", expression) and "$(" not in expression:
        return None
    parser = _Parser(tokens, config)
    try:
        result = parser.either()
    except RecursionError:  # thousands of brackets
        return None
    return result if parser.at == len(tokens) and tokens else None


@dataclass(slots=True)
class _Parser:
    """Recursive descent; None is "unknown" (Kleene's logic)."""

    tokens: list[str]
    config: Config
    at: int = 0

    def _next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def either(self) -> bool | None:
        found = [self._both()]
        while self._next() == "||":
            self._take()
            found.append(self._both())
        return True if True in found else None if None in found else False

    def _both(self) -> bool | None:
        found = [self._one()]
        while self._next() == "&&":
            self._take()
            found.append(self._one())
        return False if False in found else None if None in found else True

    def _one(self) -> bool | None:
        token = self._take()
        if token == "!":
            inner = self._one()
            return None if inner is None else not inner
        if token == "(":
            inner = self.either()
            return inner if self._take() == ")" else None
        if token.startswith("$("):
            return None
        if self._next() in ("=", "!="):
            same = self._take() == "="
            return (self._value(token) == self._value(self._take())) is same
        if self._next() in ("<", ">", "<=", ">="):
            self._take()
            self._take()
            return None
        return self._value(token) in ("y", "m")

    def _value(self, token: str) -> str:
        """A constant, or what the option is set to."""
        if token in ("y", "m", "n") or token[:1] in "\"'" or token.isdecimal():
            return token.strip("'\"")
        return self.config.get(token, "n").strip('"')


def symbols(expression: str) -> tuple[str, ...]:
    """The options that it names, each once."""
    return tuple(dict.fromkeys(filter(_is_option, _TOKEN.findall(expression))))


def _is_option(word: str) -> bool:
    return re.fullmatch(r"[A-Z0-9_]*[A-Z][A-Za-z0-9_]*", word) is not None


# --- reasons -----------------------------------------------------------------------------------


def demands(tree: KconfigTree, name: str) -> tuple[str, ...]:
    """What an option depends on, an expression for each line; all of them must hold."""
    return tuple(dict.fromkeys(e for entry in tree.entries.get(name, ()) for e in entry.depends))


def can_be_module(tree: KconfigTree, name: str) -> bool:
    """May the option be `m`?"""
    return any(entry.tristate for entry in tree.entries.get(name, ()))


def origin(tree: KconfigTree, name: str, config: Config) -> str:
    """Where an option that is on has it from: `arch/x86/Kconfig:237: select HAVE_LIVEPATCH if
    X86_64`; "" when nothing selects it."""
    for select in tree.selects.get(name, ()):
        if evaluate(select.by, config) and evaluate(select.condition or "y", config) is not False:
            return f"{select.place}: {_selects(select)}"
    return ""


def _selects(select: Select) -> str:
    return f"select {select.target}" + (f" if {select.condition}" if select.condition else "")


def reasons(
    tree: KconfigTree, name: str, config: Config, *, asked: bool = False
) -> tuple[str, ...]:
    """Why an option is off, a line for each thing that stands in the way, and behind it what stands
    in the way of that. asked: it was asked for."""
    return tuple(dict.fromkeys(_reasons(tree, name, config, DEPTH, asked)))


def obstacles(tree: KconfigTree, wanted: str, config: Config) -> tuple[str, ...]:
    """The same of an expression that does not hold."""
    return tuple(dict.fromkeys(_behind(tree, wanted, config, DEPTH)))


def _reasons(
    tree: KconfigTree, name: str, config: Config, depth: int, asked: bool = False
) -> Iterator[str]:
    own = f"arch/{tree.srcarch}/{TOP}"
    entries = tree.entries.get(name, [])
    if not entries:
        yield f"this kernel has no option {name}"
        return
    if name in tree.unsourced:
        yield f"{own} does not source {entries[0].place.partition(':')[0]}"
    unmet = [
        (entry.place, wanted)
        for entry in entries
        for wanted in entry.depends
        if evaluate(wanted, config) is False
    ]
    for place, wanted in unmet:
        yield f"{place}: {name} depends on {wanted}"
        yield from _behind(tree, wanted, config, depth)
    if unmet:
        return
    if any(entry.prompt for entry in entries):
        if name not in tree.unsourced and not asked:
            yield f"{name} is not asked for: CONFIG_{name}=y belongs into the fragment"
        return
    selects = tree.selects.get(name, [])
    if not selects and not any(entry.defaults for entry in entries):
        yield f"{own} does not select {name}, nor does anything else that this architecture reads"
        return
    for select in selects:
        wanted = f"{select.by} && ({select.condition})" if select.condition else select.by
        yield f"{select.place}: {select.by} has: {_selects(select)}"
        yield from _behind(tree, wanted, config, depth)
    for entry in entries:
        for default in entry.defaults:
            yield f"{entry.place}: {name} is {default}"
            yield from _behind(tree, default, config, depth)


def _behind(tree: KconfigTree, wanted: str, config: Config, depth: int) -> Iterator[str]:
    """Of an expression, why those options are off that should be on, and which are on that should
    be off."""
    tokens = ["", *_TOKEN.findall(wanted)]
    for before, name in itertools.pairwise(tokens):
        on = _is_option(name) and evaluate(name, config)
        if before == "!" and on:
            yield f"{name} is on"
        elif before != "!" and on is False and _is_option(name) and depth > 1:
            yield from _reasons(tree, name, config, depth - 1)

# SPDX-License-Identifier: GPL-2.0-only
"""What a livepatch's own tables say: its struct klp_patch, read from the .ko. Pure.

The kernel's klp-build and kpatch-build fill that while the module loads, from tables that can be
read all the same (`prepared`).
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

from orchestrator.elf.records import (
    SHF_WRITE,
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_RELA,
    STT_OBJECT,
    Elf,
    Rela,
    Symbol,
)
from orchestrator.errors import UsageError
from orchestrator.nouns import VMLINUX

SECTION = ".klp_e2e_layout"  # of images/layout
PREPARED = (".init.klp_objects", "__klp_objects")
DERIVED = ".kpatch.funcs"
_THIS_MODULE = "__this_module"
_WORD = 8  # bytes of a pointer and of an unsigned long
_INT = 4  # bytes of an unsigned int
_MOST = 100_000  # entries of all tables of a module together, which may be one another's
_NAME_MAX = 512  # bytes of a name, with its end: KSYM_NAME_LEN


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets and sizes in bytes, of the structures of include/linux/livepatch.h as a kernel's
    configuration makes them."""

    patch_mod: int
    patch_objs: int
    patch_replace: int
    patch_states: int
    object_name: int
    object_funcs: int
    object_size: int
    func_old_name: int
    func_new_func: int
    func_old_sympos: int
    func_size: int
    state_id: int
    state_version: int
    state_size: int


class Function(NamedTuple):
    """struct klp_func: `name` is "" where old_name is NULL; `new`: new_func is not."""

    name: str
    sympos: int
    new: bool = True


@dataclass(frozen=True, slots=True)
class PatchTable:
    """struct klp_patch, with (object, its functions) of each of its objs, and (id, version) of each
    of its states."""

    replace: bool | None  # None: the module's code says it
    objects: tuple[tuple[str, tuple[Function, ...]], ...]
    states: tuple[tuple[int, int], ...] | None = ()  # None: they are not there to be read
    unended: str = ""  # an array of it in which no empty entry is the last: the kernel reads on


def layout(elf: Elf, name: str) -> Layout:
    """What images/layout was compiled to. Raises UsageError for another file."""
    found = elf.section(SECTION)
    count = len(fields(Layout))
    if found is None or len(found.data) != count * _WORD:
        raise UsageError(f"{name} has no {SECTION} of {count} numbers")
    words = (found.data[at : at + _WORD] for at in range(0, len(found.data), _WORD))
    return Layout(*(int.from_bytes(word, elf.byte_order) for word in words))


def tables(elf: Elf, layout: Layout, name: str) -> tuple[PatchTable, ...]:
    """Every struct klp_patch that a module holds ready: there `mod` is THIS_MODULE, and `objs`
    leads to objects of which each has functions that lead somewhere; the kernel writes to all of
    them, so that a module parameter, which looks like one, is none. () where there is none.

    Raises UsageError, naming the module, for tables that no kernel would take: too many entries,
    too long a name."""
    reader = _Reader(elf, layout, name)
    found = []
    for index, pointers in reader.pointers.items():
        for offset, rela in pointers.items():
            if elf.symbol_name(rela.symbol) == _THIS_MODULE:
                table = reader.patch(index, offset - layout.patch_mod)
                if table is not None:
                    found.append(table)
    return tuple(found)


def prepared(elf: Elf, name: str) -> PatchTable | None:
    """The tables of which a builder's own init makes a struct klp_patch. klp-build's are struct
    klp_object_ext and klp_func_ext of include/linux/livepatch_external.h, in sections of their own
    (6.19 called those otherwise); kpatch-build's, struct kpatch_patch_func of its kpatch-patch.h.
    None where there are none, or none that leads anywhere.

    Raises UsageError, naming the module, as `tables` does."""
    reader = _Reader(elf, None, name)
    for index, section in enumerate(elf.sections):
        if section.name in PREPARED and section.allocated:
            objects = tuple(reader.prepared(index))
            return PatchTable(None, objects, None) if objects else None
        if section.name == DERIVED and section.allocated:
            objects = tuple(reader.derived(index).items())
            return PatchTable(None, objects, None) if objects else None
    return None


def ownerless(elf: Elf, layout: Layout, name: str) -> tuple[PatchTable, ...]:
    """What would be a struct klp_patch were its `mod` set; also what only looks like one."""
    reader = _Reader(elf, layout, name)
    found: list[PatchTable] = []
    for index, pointers in reader.pointers.items():
        for start in (offset - layout.patch_objs for offset in pointers):
            if start < 0 or start + layout.patch_mod in pointers:
                continue
            try:
                table = reader.patch(index, start)
            except UsageError:  # it is something else, and so may all the rest be
                return tuple(found)
            if table is not None:
                found.append(table)
    return tuple(found)


class _Place(NamedTuple):
    section: int
    offset: int


class _Reader:
    def __init__(self, elf: Elf, layout: Layout | None, name: str) -> None:
        self.elf = elf
        self._layout = layout  # None: no struct klp_patch is read
        self.name = name
        self.left = _MOST
        self.unended = ""
        self._arrays: dict[int, list[Symbol]] | None = None  # by section, in its order
        self.pointers: dict[int, dict[int, Rela]] = {}  # section -> offset in it -> its relocation
        for section in elf.sections:
            if section.type == SHT_RELA and section.info < len(elf.sections):
                of_section = self.pointers.setdefault(section.info, {})
                of_section.update({rela.offset: rela for rela in section.relas})

    @property
    def layout(self) -> Layout:
        assert self._layout is not None
        return self._layout

    def prepared(self, section: int) -> Iterator[tuple[str, tuple[Function, ...]]]:
        """Of each struct klp_object_ext: name (NULL is vmlinux), funcs, five words of callbacks,
        the number of funcs as an unsigned int."""
        for place in self._entries(_Place(section, 0), 8 * _WORD):
            name, funcs = self.leads(place), self.leads(_at(place, _WORD))
            text = VMLINUX if name is None else self._text(name)
            if text is not None:
                count = self._number(_at(place, 7 * _WORD), _INT)
                yield text, tuple(self._prepared_functions(funcs, count))

    def _prepared_functions(self, funcs: _Place | None, count: int) -> Iterator[Function]:
        """Of each struct klp_func_ext: old_name, new_func, sympos."""
        places = self._entries(funcs, 3 * _WORD) if funcs is not None else iter(())
        for place in itertools.islice(places, count):
            old = self.leads(place)
            text = None if old is None else self._text(old)
            sympos = self._number(_at(place, 2 * _WORD))
            yield Function(text or "", sympos, self._relocated(_at(place, _WORD)))

    def derived(self, section: int) -> dict[str, tuple[Function, ...]]:
        """Object -> its functions, of each struct kpatch_patch_func: new_addr, new_size, old_addr,
        old_size, sympos, name, objname."""
        found: dict[str, tuple[Function, ...]] = {}
        for place in self._entries(_Place(section, 0), 7 * _WORD):
            name, target = (self.leads(_at(place, n * _WORD)) for n in (5, 6))
            text = None if target is None else self._text(target)
            if text is not None:
                old = None if name is None else self._text(name)
                sympos = self._number(_at(place, 4 * _WORD))
                function = Function(old or "", sympos, self._relocated(place))
                found[text] = (*found.get(text, ()), function)
        return found

    def patch(self, section: int, start: int) -> PatchTable | None:
        """What begins there, None where it is no struct klp_patch."""
        at = start + self.layout.patch_replace
        data = self.elf.sections[section].data
        objs = self.leads(_Place(section, start + self.layout.patch_objs))
        if start < 0 or at >= len(data) or objs is None:
            return None
        if not (self._written(section) and self._written(objs.section)):
            return None
        objects = []
        self.unended = ""
        for place in self._entries(objs, self.layout.object_size):
            name = self.leads(_at(place, self.layout.object_name))
            funcs = self.leads(_at(place, self.layout.object_funcs))
            if name is None and funcs is None:
                self._ends(objs, place.offset + self.layout.object_size)
                break
            if funcs is None or not self._written(funcs.section):
                return None
            if (functions := self._functions(funcs)) is None:
                return None
            text = VMLINUX if name is None else self._text(name)
            if text is None:
                return None
            objects.append((text, functions))
        else:
            self._ends(objs, 0)
        if not objects:
            return None
        states = self._states(_Place(section, start + self.layout.patch_states))
        return PatchTable(bool(data[at]), tuple(objects), states, self.unended)

    def _states(self, pointer: _Place) -> tuple[tuple[int, int], ...] | None:
        """Up to the one whose id is 0. None where the table lies outside the module, is filled
        while the module loads, or has no end."""
        if not self._relocated(pointer):
            return ()
        states = self.leads(pointer)
        if states is None or self.elf.sections[states.section].type == SHT_NOBITS:
            return None
        found: list[tuple[int, int]] = []
        for place in self._entries(states, self.layout.state_size):
            if self._relocated(_at(place, self.layout.state_id)):
                return None
            number = self._number(_at(place, self.layout.state_id))
            if not number:
                return tuple(found)
            found.append((number, self._number(_at(place, self.layout.state_version), _INT)))
        return None

    def _functions(self, funcs: _Place) -> tuple[Function, ...] | None:
        found = []
        for place in self._entries(funcs, self.layout.func_size):
            name = self.leads(_at(place, self.layout.func_old_name))
            sympos = self._number(_at(place, self.layout.func_old_sympos))
            new = self._relocated(_at(place, self.layout.func_new_func))
            if name is None and not new and not sympos:
                self._ends(funcs, place.offset + self.layout.func_size)
                break
            text = "" if name is None else self._text(name)
            if text is None:
                return None
            found.append(Function(text, sympos, new))
        else:
            self._ends(funcs, 0)
        return tuple(found)

    def _entries(self, start: _Place, size: int) -> Iterator[_Place]:
        """Where the entries of a table may stand, as far as its section goes."""
        section = self.elf.sections[start.section]
        offset = start.offset
        while 0 <= offset <= section.size - size:
            self.left -= 1
            if self.left < 0:
                raise UsageError(
                    f"{self.name} has more than {_MOST} struct klp_object, klp_func and klp_state"
                )
            yield _Place(start.section, offset)
            offset += size

    def _ends(self, array: _Place, end: int) -> None:
        """Is the last entry, which is empty and goes to `end`, the array's own, as far as a symbol
        says where that ends? What lies behind it may be empty by chance, as far as this reads it.
        No section goes to 0: there is no such entry."""
        if self._arrays is None:
            self._arrays = {}
            for symbol in sorted(self.elf.symbols, key=lambda s: s.value):
                if symbol.type == STT_OBJECT and symbol.size:
                    self._arrays.setdefault(symbol.shndx, []).append(symbol)
        known = self._arrays.get(array.section, [])
        at = bisect_right(known, array.offset, key=lambda symbol: symbol.value) - 1
        own = known[at] if at >= 0 and array.offset < known[at].value + known[at].size else None
        if not end or (own is not None and end > own.value + own.size):
            self.unended = self.unended or (own.name if own is not None else "without a name")

    def leads(self, place: _Place) -> _Place | None:
        """Where a pointer leads; None where it is NULL, or leads out of the module."""
        rela = self.pointers.get(place.section, {}).get(place.offset)
        if rela is None or not rela.symbol < len(self.elf.symbols):
            return None
        symbol = self.elf.symbols[rela.symbol]
        if not SHN_UNDEF < symbol.shndx < min(SHN_LORESERVE, len(self.elf.sections)):
            return None
        return _Place(symbol.shndx, symbol.value + rela.addend)

    def _written(self, section: int) -> bool:
        """May the kernel write there?"""
        return bool(self.elf.sections[section].flags & SHF_WRITE)

    def _relocated(self, place: _Place) -> bool:
        return place.offset in self.pointers.get(place.section, {})

    def _number(self, place: _Place, size: int = _WORD) -> int:
        data = self.elf.sections[place.section].data[place.offset : place.offset + size]
        return int.from_bytes(data, self.elf.byte_order)

    def _text(self, place: _Place) -> str | None:
        data: bytes = self.elf.sections[place.section].data
        if not 0 <= place.offset < len(data):
            return None
        end = data.find(b"\0", place.offset, place.offset + _NAME_MAX)
        if end < 0 and len(data) - place.offset >= _NAME_MAX:
            raise UsageError(f"{self.name} patches what has a name of {_NAME_MAX} bytes or more")
        if end < 0:
            return None
        return data[place.offset : end].decode("utf-8", "surrogateescape")


def _at(place: _Place, more: int) -> _Place:
    return _Place(place.section, place.offset + more)

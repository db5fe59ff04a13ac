# SPDX-License-Identifier: GPL-2.0-only
"""What is wrong with an architecture's two files, field by field, as far as they themselves tell.

A check is a function whose parameters are the fields it needs: it runs when all of them are there
and of the right type, so that one mistake hides no other.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from orchestrator import catalog
from orchestrator.build import kconfig
from orchestrator.build.toolchain import GCC
from orchestrator.elf import encoding, reader
from orchestrator.errors import UsageError
from orchestrator.nouns import Arch, Encoding, Instead, RelocationType, Stub, Userland

BITS = (8, 16, 24, 32, 64)
GIVEN = ("name", "file", "configs")  # fields of Arch that are not in the file
MAY_BE_EMPTY = (
    *("cross_compile", "cmdline", "since", "loader", "qemu_version", "qemu_package", "ram"),
)
FILE = "the file"
FRAGMENT = "Kconfig fragment"


class FieldKind(StrEnum):
    WRONG = "wrong"  # with the files
    LACKING = "lacking"  # on this host
    NOTE = "note"  # may be right


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing about one field."""

    field: str  # "machine", "relocations[3].bits", "Kconfig fragment"
    text: str  # what is wrong
    hint: str = ""  # what to do
    kind: FieldKind = FieldKind.WRONG


@dataclass(frozen=True, slots=True)
class Field:
    """A key of an architecture's file, as arch-fields.toml tells of it."""

    name: str
    what: str
    where: str
    usual: str | bool | int | float | tuple[str, ...] | Mapping[str, str] | None = (
        None  # what most architectures have
    )


@dataclass(frozen=True, slots=True)
class _Fields:
    field: tuple[Field, ...]


Check = Callable[..., Iterator[Remark]]


@functools.cache
def fields() -> Mapping[str, Field]:
    """Every key that may stand in an architecture's file, in the order of our files."""
    file = catalog.load_toml(Path(__file__).with_name("arch-fields.toml"), _Fields)
    return {field.name: field for field in file.field}


@dataclass(frozen=True, slots=True)
class Draft:
    """An architecture's file as far as it can be read."""

    path: Path
    right: Mapping[str, Any]  # fields that are there and of the right type, defaults included
    remarks: tuple[Remark, ...]  # about the others

    def run_checks(self, checks: Iterable[Check]) -> Iterator[Remark]:
        """What the checks say whose fields are all right; see the module's docstring."""
        for check in checks:
            wanted = inspect.signature(check).parameters
            if wanted.keys() <= self.right.keys():
                yield from check(**{name: self.right[name] for name in wanted})


def read(path: Path) -> Draft:
    """Reads what can be read; a file that is no TOML is a remark like any other."""
    try:
        data = catalog.read_toml(path)
    except UsageError as err:
        hint = "`klp-e2e arch new NAME` writes one to begin with"
        return Draft(path, {}, (Remark(FILE, str(err).removeprefix(f"{path}: "), hint),))
    types = {
        name: type_ for name, type_ in typing.get_type_hints(Arch).items() if name not in GIVEN
    }
    described = fields()
    if data.get("name") == path.stem:  # said twice, and said rightly
        del data["name"]
    known = {key: value for key, value in data.items() if key in types}
    unknown = [key for key in data if key not in types]
    remarks = [Remark(key, "unknown key", _guess(key, described)) for key in unknown]
    empty = [key for key, value in known.items() if value == "" and key not in MAY_BE_EMPTY]
    remarks += [Remark(key, "empty", described[key].where) for key in empty]
    for place, words in catalog.problems({**known, "name": path.stem}, Arch):
        if place in empty:
            continue
        key = described.get(
            re.sub(r"\[\d+\]$", "", place)
        )  # of a row of the table, the words say it all
        what = f": {key.what}" if key and words == catalog.MISSING else ""
        remarks.append(Remark(place, f"{words}{what}", key.where if key else ""))
    wrong = {top(remark.field) for remark in remarks}
    right = {
        field.name: catalog.check(known[field.name], types[field.name], field.name)
        if field.name in known
        else field.default
        for field in dataclasses.fields(Arch)
        if field.name in types and field.name not in wrong
    }
    return Draft(path, right, tuple(remarks))


def top(place: str) -> str:
    """The key that a place is in: relocations[3].bits -> relocations"""
    return place.partition("[")[0].partition(".")[0]


def _guess(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else "take it out"


# --- what a file alone tells -------------------------------------------------------------------


def _packages(
    packages: tuple[str, ...],
    qemu: str,
    qemu_package: str,
    cross_compile: str,
    toolchain: str,
    userland: Userland,
) -> Iterator[Remark]:
    hint = "without it `klp-e2e doctor` and `make host` do not know what to install"
    if not qemu_package and not any(package.startswith("qemu-") for package in packages):
        yield Remark("packages", f"no qemu-... package, which brings {qemu}", hint)
    if GCC in (toolchain, userland.toolchain) and not any(
        package == GCC or package.startswith(f"{GCC}-") for package in packages
    ):
        yield Remark("packages", f"no gcc... package, which brings {cross_compile}gcc", hint)


def _newer_qemu(qemu_version: str, qemu_package: str) -> Iterator[Remark]:
    if bool(qemu_version) == bool(qemu_package):
        return
    lacks, has = "qemu_package", "qemu_version"
    if qemu_package:
        lacks, has = has, lacks
    yield Remark(lacks, f"empty, and {has} is not", fields()[lacks].where)


def _rows(relocations: tuple[RelocationType, ...]) -> Iterator[Remark]:
    if not relocations:
        text = "the table is empty: no deferred relocation could be read back"
        yield Remark("relocations", text, fields()["relocations"].where)
    for index, row in enumerate(relocations):
        place = f"relocations[{index}]"
        before = relocations[:index]
        for name in ("name", "number"):
            value = getattr(row, name)
            twin = next(
                (n for n, other in enumerate(before) if getattr(other, name) == value), None
            )
            if twin is not None:
                text = f"{value} stands in relocations[{twin}] already"
                yield Remark(f"{place}.{name}", text, "one row for each relocation type")
        if row.bits not in BITS:
            text = f"{row.bits} is no width of a field ({row.name})"
            yield Remark(f"{place}.bits", text, ", ".join(map(str, BITS)))
        yield from _encoding(row, place, row.name)
        yield from _behind(row, place)
        for number, form in enumerate(row.instead):
            yield from _instead(form, f"{place}.instead[{number}]", row)


def _encoding(row: Encoding, place: str, name: str) -> Iterator[Remark]:
    for text in encoding.contradictions(row):
        hint = "docs/reference/arch-file.md says what a row may say"
        yield Remark(f"{place}.field", f"{text} ({name})", hint)


def _instead(form: Instead, place: str, row: RelocationType) -> Iterator[Remark]:
    yield from _encoding(form, place, row.name)
    if form.bits != row.bits:
        text = f"{form.bits} bits, and the field has {row.bits} ({row.name})"
        yield Remark(f"{place}.bits", text, "an instruction of the same size takes its place")
    if form.opcode & ~form.opcode_bits or form.opcode_bits & encoding.mask(form):
        text = f"{form.opcode:#x} of {form.opcode_bits:#x} ({row.name})"
        yield Remark(f"{place}.opcode", text, "bits within opcode_bits, which no address is in")
    if form.stub is not None:
        yield from _stub_fields(form.stub)


def _behind(row: RelocationType, place: str) -> Iterator[Remark]:
    if row.behind is None:
        return
    sizes = []
    for name, digits in (("before", row.behind.before), ("after", row.behind.after)):
        try:
            sizes.append(len(bytes.fromhex(digits)))
        except ValueError:
            text = f"{digits!r} are not the hexadecimal digits of bytes ({row.name})"
            yield Remark(
                f"{place}.behind.{name}", text, "two digits a byte, in the order in memory"
            )
    if len(sizes) == 2 and (sizes[0] != sizes[1] or not sizes[0]):
        text = f"{sizes[0]} and {sizes[1]} bytes ({row.name})"
        yield Remark(f"{place}.behind", text, "as many after as before, and at least one")


def _numbers(relocations: tuple[RelocationType, ...]) -> Iterator[Remark]:
    known = reader.relocation_numbers()
    for index, row in enumerate(relocations):
        place = f"relocations[{index}]"
        numbers = known.get(row.name)
        if numbers is None:
            text = f"pyelftools does not know {row.name}"
            yield Remark(f"{place}.name", text, "is it spelled as readelf has it?", FieldKind.NOTE)
        elif row.number not in numbers:
            text = f"{row.name} is {' or '.join(map(str, sorted(numbers)))}, not {row.number}"
            yield Remark(f"{place}.number", text, "as in elf.h of the C library")


def _stub(relocations: tuple[RelocationType, ...], stub: Stub | None) -> Iterator[Remark]:
    through = [row.name for row in relocations if row.leads_to == "plt"]
    if stub is None:
        if through:
            text = f"missing, and {', '.join(through)} leads to one: L() is in its value"
            yield Remark("stub", text, fields()["stub"].where)
        return
    wrong = tuple(_stub_fields(stub))
    yield from wrong
    if not wrong and not _leads_anywhere(stub):
        text = "its fields do not say the whole address that it jumps to"
        yield Remark("stub.fields", text, fields()["stub"].where)


def _stub_fields(stub: Stub) -> Iterator[Remark]:
    for index, row in enumerate(stub.fields):
        place = f"stub.fields[{index}]"
        yield from _encoding(row, place, f"at {row.at}")
        if row.bits in BITS and row.at + row.bits // 8 > stub.size:
            text = f"{row.bits} bits at byte {row.at} are not within {stub.size} bytes"
            yield Remark(f"{place}.at", text, fields()["stub"].where)
        if row.leads_to != "symbol":
            yield Remark(f"{place}.value", f"{row.value}: a stub leads to S + A itself")
    digits = stub.code.replace(" ", "")
    if digits and len(digits) != 2 * stub.size:
        text = f"{len(digits)} hexadecimal digits, and a stub has {stub.size} bytes"
        yield Remark("stub.code", text, "two digits a byte, in the order in memory")


def _leads_anywhere(stub: Stub) -> bool:
    """Does it say all bits of an address but those that are always zero?"""
    target = 0x0123_4567_89AB_CDE8
    place = target - 0x5000  # of a stub that is relative to it
    raw = encoding.a_stub(stub, "little", place, target)
    low = (1 << encoding.MOST_ALIGNED) - 1
    return raw is not None and encoding.of_stub(stub, "little", place, raw, 0) & ~low == target


def _got(relocations: tuple[RelocationType, ...], got: str | None) -> Iterator[Remark]:
    halves = [r.name for r in relocations if r.leads_to == "got" and not encoding.is_whole(r)]
    if halves and got is None:
        text = f"missing, and {', '.join(halves)} says only a part of a slot's address"
        yield Remark("got", text, fields()["got"].where)


CHECKS: Sequence[Check] = (_packages, _newer_qemu, _rows, _numbers, _stub, _got)


# --- the fragment ------------------------------------------------------------------------------


def fragment_remarks(path: Path, base: Path) -> Iterator[Remark]:
    """About an architecture's Kconfig fragment, on top of base.config."""
    if not path.is_file():
        hint = "every architecture has one; it may be empty but for comments"
        yield Remark(FRAGMENT, f"{path} is missing", hint)
        return
    text = path.read_text(errors="replace")
    wrong = kconfig.unreadable(text)
    for line in wrong:
        yield Remark(FRAGMENT, line, "CONFIG_NAME=value, or # CONFIG_NAME is not set")
    common = kconfig.parse(base.read_text())
    readable = "\n".join(line for line in text.splitlines() if not kconfig.unreadable(line))
    for name, value in kconfig.parse(readable).items():
        asked = common.get(name, value)
        if value == asked:
            continue
        if value == "n":  # how a fragment says that the architecture has no such option
            text = f"CONFIG_{name} is off here, and {asked} in {base.name}"
            hint = "right where this architecture cannot have it, and only there"
            yield Remark(FRAGMENT, text, hint, FieldKind.NOTE)
        else:
            text = f"CONFIG_{name}={value} contradicts {base.name}, which has {asked}"
            yield Remark(FRAGMENT, text, "take the line out")

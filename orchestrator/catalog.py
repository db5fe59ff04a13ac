# SPDX-License-Identifier: GPL-2.0-only
"""The only reader of TOML: architectures, module sets, and the directories that come with us.

A file is checked field by field against the frozen dataclass it becomes: an unknown key, a missing
one or a value of the wrong type is a UsageError that names file and key.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import pydantic
import pydantic_core

from orchestrator.elf import encoding
from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import files
from orchestrator.model import kofiles, manifest
from orchestrator.model.movers import completed
from orchestrator.nouns import Arch, ArchName, ModuleSet, set_title

T = TypeVar("T")

_PACKAGE = Path(__file__).resolve().parent
# In a checkout these lie at the top level; `pip install` puts them under the package (see
# [tool.setuptools.package-dir] in pyproject.toml).
SET_FILE = "set.toml"
_DATA = ("images/filler", "images/guest", "images/layout", "images/modules", "kernel-config")
_DOTS = 100  # in a line: tomllib takes the square of the number of a key's parts
_SHOWN = 10  # things that are wrong with one file
MISSING = "missing"  # what `problems` says of a key that is not there

# What a bundle's file may ask of QEMU. Of machines what they consist of, none of the options that
# name a file (dtb, dumpdtb, firmware, kernel, ...) or another object.
_MACHINE = re.compile(
    "[A-Za-z0-9._-]+(,(x-vof|cap-[a-z-]+|ic-mode|kvm-type|resize-hpt|max-cpu-compat|acpi|rtc|pi[ct]"
    "|hpet|smm|vmport|i8042|usb|graphics|pcie|isa-serial|auto-kernel-cmdline|option-roms|ioapic2"
    "|gic-version|highmem[a-z-]*|its|iommu|ras|mte|secure|virtualization|aia|aclint|aes-key-wrap"
    "|dea-key-wrap|mem-merge|dump-guest-core)=[A-Za-z0-9.-]+)*"
)
_MOST = {"memory_mb": 4096, "cpus": 8, "time_scale": 20}
_NUMBER_OR_SWITCH = "(on|off|auto|true|false|[0-9]*)"
_OTHERS: Mapping[str, re.Pattern[str]] = {
    "-global": re.compile(f"virtio-[a-z-]+\\.[a-z0-9_-]+={_NUMBER_OR_SWITCH}"),
    "-device": re.compile(
        f"virtio-(balloon|rng)(-[a-z]+)+(,[a-z][a-z0-9_-]*={_NUMBER_OR_SWITCH})*"
    ),
    "-prom-env": re.compile("[A-Za-z0-9_?-]+=[A-Za-z0-9_.-]*"),
    "-rtc": re.compile("base=(utc|localtime)"),
    "-vga": re.compile("none"),
}
_NOT_OTHERS = (
    "a bundle is a stranger's: its file may give QEMU only what opens nothing of this host; if you "
    "trust it, its reproduce.sh starts QEMU as it was started"
)


def data_dir(name: str) -> Path:
    """A directory that comes with us: one of `_DATA`."""
    if name not in _DATA:
        raise ValueError(f"no such package data: {name}")
    for base in (_PACKAGE / "_data", _PACKAGE.parent):
        if (base / name).is_dir():
            return base / name
    raise HarnessError(
        f"{name} is not there: the installation lacks its data",
        hint="install again: pip install --force-reinstall .",
    )


def load_toml(path: Path, type_: type[T], **given: object) -> T:
    """Read a TOML file into `type_`, a dataclass or any type pydantic knows.

    given: fields that need not stand in the file (its own name, its directory); where one does, it
    must say the same. Raises UsageError naming file and key.
    """
    return _typed(read_toml(path), path, type_, **given)


def _typed(data: dict[str, Any], path: Path, type_: type[T], **given: object) -> T:
    for key, value in given.items():
        if data.get(key, value) != value:
            raise UsageError(
                f"{path}: {key}: must be '{value}', after the file's place",
                hint="leave it out: the place says it",
            )
    return check({**data, **given}, type_, str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tables, whatever is in them. Raises UsageError when it cannot be read."""
    try:
        return _toml(files.read(path, files.TABLE), path)
    except OSError as err:
        raise UsageError(f"{path}: {err.strerror}") from err


def _toml(content: bytes, path: Path) -> dict[str, Any]:
    try:
        text = content.decode()
        if any(line.count(".") > _DOTS for line in text.splitlines()):
            raise UsageError(f"{path}: a line of it has more than {_DOTS} dots")
        return tomllib.loads(text, parse_float=_number)
    except UnicodeDecodeError as err:
        line = err.object[: err.start].count(b"\n") + 1
        raise UsageError(
            f"{path}: line {line} is not UTF-8", hint="save it as UTF-8, as all TOML is"
        ) from err
    except ValueError as err:  # no TOML, or a number of thousands of digits
        raise UsageError(f"{path}: {err}") from err
    except RecursionError:
        raise UsageError(f"{path}: its tables and lists lie too deep in one another") from None


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no number to calculate with")
    return number


def check(data: object, type_: type[T], name: str) -> T:
    """`data` (tables, lists, plain values) as a `type_`; `name` is what messages call it.

    Goes through JSON: pydantic's strict mode then takes a list for a tuple and a string for a
    path, and still nothing for anything else ("3" is no number).
    """
    try:
        return _validated(data, type_)
    except pydantic.ValidationError as err:
        # what is missing may be what was misspelt
        errors = sorted(err.errors(include_url=False), key=lambda e: e["type"] not in _UNKNOWN)
        found = [(_place(e["loc"], data), _words(e) + _guess(e, type_)) for e in errors]
        wrong = "; ".join(f"{key}: {words}" for key, words in found[:_SHOWN])
        wrong += f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UsageError(f"{name}: {wrong}") from err


def problems(data: object, type_: type[object]) -> list[tuple[str, str]]:
    """All that keeps `data` from being a `type_`: ("relocations[3].bits", "missing")."""
    try:
        _validated(data, type_)
    except pydantic.ValidationError as err:
        return _problems(err)
    return []


def _validated(data: object, type_: type[T]) -> T:
    try:
        adapter: pydantic.TypeAdapter[T] = pydantic.TypeAdapter(type_)
    except pydantic_core.SchemaError as err:  # pydantic makes one of a Ctrl-C, too
        if "KeyboardInterrupt" in str(err):
            raise KeyboardInterrupt from err
        raise
    return adapter.validate_json(json.dumps(data, default=str), strict=True, extra="forbid")


def _problems(err: pydantic.ValidationError) -> list[tuple[str, str]]:
    return [(_key(e["loc"]), _words(e)) for e in err.errors(include_url=False)]


def _key(location: tuple[int | str, ...]) -> str:
    """("relocations", 3, "bits") -> relocations[3].bits"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "the file"


def _place(location: tuple[int | str, ...], data: object) -> str:
    """As `_key`, with the name of the innermost entry that has one: modules[1].kind of 'my_fix'"""
    name = ""
    for part in location:
        try:
            data = data[part]  # type: ignore[index]  # an index of a list, a key of a table
        except (LookupError, TypeError):
            break
        if isinstance(data, Mapping):
            named = (data.get(key) for key in ("name", "id"))
            name = next((f" of '{each}'" for each in named if isinstance(each, str)), name)
    return f"{_key(location)}{name}"


_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


def _guess(error: Mapping[str, Any], type_: object) -> str:
    """The nearest key that there is to one that there is not."""
    if error["type"] not in _UNKNOWN:
        return ""
    *way, key = error["loc"]
    for part in way:
        type_ = _inner(type_, part)
    names = [each.name for each in fields(type_)] if is_dataclass(type_) else []
    close = difflib.get_close_matches(str(key), names, n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def _inner(type_: object, part: int | str) -> object:
    """What lies at a key, or an index, of a type."""
    if isinstance(type_, type) and is_dataclass(type_):
        return get_type_hints(type_).get(str(part))
    inner = [each for each in get_args(type_) if each not in (Ellipsis, type(None))]
    return inner[-1] if inner else None


def _words(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return "unknown key"
        case "missing" | "missing_argument":
            return MISSING
        case "string_pattern_mismatch":
            pattern = error["ctx"]["pattern"].removeprefix("^").removesuffix("$")
            return f"must be {pattern} (a regular expression), not {error['input']!r}"
    message: str = error["msg"]
    return f"{message[:1].lower()}{message[1:]}, not {reprlib.repr(error['input'])}"


# --- architectures -----------------------------------------------------------------------------


def arch_files() -> Mapping[str, Path]:
    """The file of every architecture that comes with us, by name."""
    return {path.stem: path for path in sorted((_PACKAGE / "arches").glob("*.toml"))}


def arches() -> Mapping[str, Arch]:
    """Every architecture that comes with us, by name. Raises UsageError for a wrong file."""
    return {name: _arch(path) for name, path in arch_files().items()}


def default_arches() -> Mapping[str, Arch]:
    """Those that a command takes where none is named. Raises UsageError for a wrong file."""
    return {name: found for name, found in arches().items() if found.by_default}


def arch(spec: str) -> Arch:
    """An architecture of ours by name, or any by its file: see `arch_file`."""
    return _arch(arch_file(spec))


def arch_of_others(path: Path) -> Arch:
    """An architecture of a bundle, which anybody may have made, as the file in it tells.

    What `nouns` says of an architecture's words holds for every file. A user's own (`--arch-file`)
    is believed beyond that: it may give any option to QEMU. This one may give those of `_OTHERS`,
    none of which opens a file, a socket or a device of the host. Raises UsageError.
    """
    found = _arch(path)
    for key, most in _MOST.items():
        if (asked := getattr(found, key)) > most:
            raise UsageError(f"{path}: {key}: {asked}", f"at most {most} of a bundle's file")
    if not _MACHINE.fullmatch(found.machine):
        raise UsageError(f"{path}: machine: {found.machine!r}", _NOT_OTHERS)
    words = iter(found.qemu_args)
    for option in words:
        values = _OTHERS.get(option)
        value = next(words, "")
        if values is None or not values.fullmatch(value):
            raise UsageError(f"{path}: qemu_args: {option!r} {value!r}", _NOT_OTHERS)
    return found


def arch_file(spec: str) -> Path:
    """Where an architecture is described: one of ours by name, or a file given as a path, which
    has a "/" or ends in ".toml"; its name is the file's.

    Raises UsageError, listing the known ones.
    """
    if not is_arch_file(spec):
        hint = f"a file is given as {spec}.toml\n" if Path(f"{spec}.toml").is_file() else ""
        return _named(spec, arch_files(), "architecture", hint)
    path = Path(spec).absolute()
    if not is_arch_name(path.stem) or path.suffix != ".toml":
        raise _no_arch_name(spec)
    return path


def _no_arch_name(spec: str) -> UsageError:
    return UsageError(
        f"'{spec}' is no name of an architecture's file",
        hint="NAME.toml, with letters, digits, _ and - in NAME: it names results and kernels",
    )


def is_arch_name(text: str) -> bool:
    """Can an architecture be called so? Directories of results are."""
    return not problems(text, ArchName)


def is_arch_file(spec: str) -> bool:
    """Is it the file of an architecture, and not the name of one of ours?"""
    return "/" in spec or spec.endswith(".toml")


def fragment(file: Path) -> Path:
    """The Kconfig fragment that belongs to an architecture's file: beside it, ours apart."""
    if _is_ours(file):
        return data_dir("kernel-config") / f"{file.stem}.config"
    return file.with_suffix(".config")


def new_arch(name: str, directory: Path | None) -> Path:
    """Where the file of an architecture that is to be written belongs: in `directory`, or beside
    ours. Raises UsageError for a name that cannot be one."""
    if not is_arch_name(name):
        raise _no_arch_name(name)
    if directory is not None:
        return arch_file(str(directory / f"{name}.toml"))
    if data_dir("kernel-config").is_relative_to(_PACKAGE):
        raise UsageError(
            "this klp-e2e is installed, and its own files are not for writing",
            hint="--directory . writes them there; then: --arch-file",
        )
    return arch_file(str(_PACKAGE / "arches" / f"{name}.toml"))


def _is_ours(file: Path) -> bool:
    return file.resolve().parent == _PACKAGE / "arches"


def _arch(path: Path) -> Arch:
    given: dict[str, object] = {"configs": []} | ({} if _is_ours(path) else {"file": path})
    found = load_toml(path, Arch, name=path.stem, **given)
    if why := encoding.unusable(found.relocations, found.stub):
        raise UsageError(f"{path}: {why}", hint=f"klp-e2e arch check {path} says it in full")
    return found


# --- module sets -------------------------------------------------------------------------------


def module_sets() -> Mapping[str, ModuleSet]:
    """Every module set that comes with us, by name."""
    return {path.parent.name: _module_set(path) for path in _set_files()}


def _set_files() -> list[Path]:
    return sorted(data_dir("images/modules").glob("*/set.toml"))


def module_set(name: str) -> ModuleSet:
    """A module set by name, or from a directory with a set.toml, given as a path: with a "/", or
    "." or "..". The set's name is the directory's.

    Raises UsageError, listing the known ones.
    """
    if not is_place(name):
        hint = f"a directory is given with a /, as in ./{name}\n" if Path(name).is_dir() else ""
        return _named(name, module_sets(), "module set", hint)
    path = Path(name).resolve() / SET_FILE
    if not os.path.lexists(path) and not any(path.parent.glob("*.ko")):
        raise _no_set(name)
    return _module_set(path)


def _no_set(name: str) -> UsageError:
    place = Path(name)
    known = f"known: {', '.join(module_sets())}"
    if place.is_dir():
        hint = f"images/modules/basic/set.toml is one; {known}"
        return UsageError(f"{name} is not a module set: it holds no set.toml and no .ko", hint)
    if place.is_file():
        hint = f"name the directory that its set.toml lies in, as in {place.parent}/"
        return UsageError(f"{name} is not a module set: it is a file", hint)
    others = sorted(each.parent.name for each in place.parent.glob("*/set.toml"))
    close = difflib.get_close_matches(place.name, others, n=1)
    guess = f"did you mean {place.parent / close[0]}/? " if close else ""
    return UsageError(f"{name} is not a module set: there is no such directory", guess + known)


def is_place(name: str) -> bool:
    """Is it the directory of a module set, and not the name of one of ours?"""
    return "/" in name or name in (".", "..")


def called(name: str) -> str:
    """What a module set is called over many runs, wherever it lies: by its name, and with "./"
    where it is not ours but has the name of one of ours."""
    title = set_title(name)
    like_ours = is_place(name) and title in {path.parent.name for path in _set_files()}
    return f"./{title}" if like_ours else title


def module_set_in(directory: Path, name: str) -> ModuleSet:
    """The one that a directory holds, whatever that is called, as its set.toml says: without the
    harness's own filler. Raises UsageError."""
    path = directory / SET_FILE
    data = _toml(set_text(directory), path)
    found = _typed(data, path, ModuleSet, name=name, directory=directory)
    manifest.check(found)
    return found


def set_text(directory: Path) -> bytes:
    """A set's set.toml; where it has none, and .ko files, what these say of themselves. Raises
    UsageError where they do not, or a file cannot be read."""
    try:
        if os.path.lexists(directory / SET_FILE):
            return files.read(directory / SET_FILE, files.TABLE)
        given = sorted(directory.glob("*.ko"))
        if len(given) > kofiles.MOST:
            raise UsageError(
                f"{directory}: {len(given)} .ko files, at most {kofiles.MOST} are a set",
                hint="write a set.toml that names those that are to be tested",
            )
        together = files.Together(files.MODULES)
        found = {path.name: together.read(path, files.MODULE) for path in given}
    except OSError as err:
        raise UsageError(f"{err.filename or directory}: {err.strerror}") from err
    return kofiles.set_text(found).encode()


def _module_set(path: Path) -> ModuleSet:
    return completed(module_set_in(path.parent, path.parent.name))


def _named(name: str, known: Mapping[str, T], what: str, hint: str = "") -> T:
    try:
        return known[name]
    except KeyError:
        close = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"unknown {what}: {name}", hint=f"{hint}{guess}known: {', '.join(known) or 'none'}"
        ) from None

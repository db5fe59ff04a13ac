# SPDX-License-Identifier: GPL-2.0-only
"""Properties of what reads and writes text of others, for whatever hypothesis thinks of.

The same examples every time. `tests/fuzz/` spoils files of every reader; here are the shapes that
a generator can know: what is written is read back the same, and what is damaged is told.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import mutate
import pytest
import readers
from elf_samples import livepatch, target
from harness import fault, limits
from history_samples import a_run
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from samples import load_results

from orchestrator import catalog, kernelreports
from orchestrator.elf import reader as elf_reader
from orchestrator.elf.records import SHN_ABS, SHT_NOBITS, SHT_PROGBITS, Elf, Section, Symbol
from orchestrator.elf.writer import write
from orchestrator.errors import UsageError
from orchestrator.model import orders
from orchestrator.nouns import (
    Burst,
    Case,
    Event,
    KlpSymbol,
    Load,
    Order,
    Plain,
    Race,
    SetEnabled,
    SetParameter,
    Unload,
)
from orchestrator.report import resultsjson as results
from orchestrator.source import mails
from orchestrator.source.patches import Patch
from orchestrator.verdicts import (
    Answers,
    CaseResult,
    Check,
    Health,
    Modules,
    Patched,
    PatchState,
    Reading,
    Shown,
    Step,
    Unread,
    proofs,
)

settings.register_profile(
    "same every time",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("same every time")

# --- orders --------------------------------------------------------------------------------------

Texts = st.SearchStrategy[str]


def events(modules: Texts, parameters: Texts, values: Texts) -> st.SearchStrategy[Event]:
    plain: st.SearchStrategy[Plain] = st.one_of(
        st.builds(Load, modules, st.lists(st.tuples(parameters, values), max_size=3).map(tuple)),
        st.builds(Unload, modules),
        st.builds(SetEnabled, modules, st.booleans()),
        st.builds(SetParameter, modules, parameters, values),
    )
    race = st.builds(Race, st.lists(plain, min_size=2, max_size=4).map(tuple))
    several = st.lists(plain, min_size=1, max_size=3).map(tuple)
    return plain | race | st.builds(Burst, several, st.integers(1, orders.MOST_TIMES))


EVENTS = events(
    st.from_regex(orders._NAME, fullmatch=True).map(lambda name: name.replace("-", "_")),
    st.from_regex(orders._PARAMETER, fullmatch=True),
    st.from_regex(orders._VALUE, fullmatch=True),
)
ORDERS = st.builds(Order, st.lists(EVENTS, min_size=1, max_size=5).map(tuple))
WORDS = st.sampled_from(
    [
        *("+", "-", "=", "=0", "=1", ".", "[", "]", ",", "{", "}", "(", ")", ")*", "2", " ", "\t"),
        *("klp_patch", "klp_target", "livepatch-sample", "verbose", "\u00b2", "\u2028", "\0"),
    ]
)
ORDER_TEXTS = st.lists(WORDS, max_size=12).map("".join) | st.text(max_size=20)


@given(ORDERS)
def test_an_order_is_read_back_as_it_was_written(order: Order) -> None:
    text = orders.format(order)
    assert orders.parse(text) == order
    assert "\n" not in text and orders.format(orders.parse(text)) == text


@given(ORDER_TEXTS)
def test_any_text_is_an_order_or_refused(text: str) -> None:
    try:
        order = orders.parse(text)
    except UsageError as refused:
        assert str(refused) and refused.hint
        return
    assert orders.parse(orders.format(order)) == order


BASIC = catalog.module_sets()["basic"]
OF_BASIC = events(
    st.sampled_from([*(module.name for module in BASIC.modules), "klp_other"]),
    st.sampled_from([f.parameter for m in BASIC.modules for f in m.failures] + ["other"]),
    st.sampled_from(["0", "1", "19", "-19", "0x13", "4096", "no"]),
)


@given(st.builds(Order, st.lists(OF_BASIC, min_size=1, max_size=3).map(tuple)))
def test_a_set_refuses_in_the_text_what_it_refuses_in_the_order(order: Order) -> None:
    try:
        orders.check(order, BASIC)
    except UsageError:
        with pytest.raises(UsageError):
            orders.parse(orders.format(order), BASIC)
    else:
        assert orders.parse(orders.format(order), BASIC) == order


# --- patches, mails ------------------------------------------------------------------------------

# lines of files: anything, and what looks like something else in a patch or in a mail
LINE = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r"), max_size=12),
    st.sampled_from(
        [
            *("", " ", "a ", "\tx", "-- ", "--- a/x", "+++ b/x", "@@ -1 +1 @@"),
            *("diff --git a/x b/x", "Index: x", "index 0..1 120000", "\\ No newline"),
            *("From here", ">From there"),
        ]
    ),
)
FILE = st.lists(LINE, min_size=1, max_size=12).map(lambda lines: [f"{line}\n" for line in lines])
NAMES = st.from_regex(r"[a-z]{1,3}(/[a-z_-]{1,5}){0,2}[a-z]\.[chS]", fullmatch=True)


def a_diff(name: str, old: Sequence[str], new: Sequence[str]) -> str:
    """As git writes it; `old` or `new` may be empty for a file that is not there."""
    head = [f"diff --git a/{name} b/{name}\n"]
    head += ["new file mode 100644\n"] if not old else ["deleted file mode 100644\n"] * (not new)
    names = (f"a/{name}" if old else "/dev/null", f"b/{name}" if new else "/dev/null")
    return "".join([*head, *difflib.unified_diff(list(old), list(new), *names)])


@st.composite
def diffs(draw: st.DrawFn) -> dict[str, tuple[list[str], list[str]]]:
    """Name -> a file before and after; no two alike."""
    found = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        old = draw(FILE | st.just([]))
        new = draw(FILE | st.just([]) if old else FILE)
        if draw(st.booleans()) and old and new:  # a change within what stays
            new = [*old[: len(old) // 2], *new[:2], *old[len(old) // 2 :]]
        if old != new:
            found[name] = (old, new)
    assume(found)
    return found


def text_of(changed: dict[str, tuple[list[str], list[str]]]) -> str:
    return "".join(a_diff(name, *sides) for name, sides in changed.items())


MESSAGES = st.lists(
    LINE.filter(lambda line: not re.match(r"diff |Index: |--- |@@|\+", line)), max_size=4
).map(lambda lines: "".join(f"{line}\n" for line in lines))


@given(diffs(), MESSAGES)
def test_a_patch_says_which_files_it_touches(
    changed: dict[str, tuple[list[str], list[str]]], message: str
) -> None:
    text = text_of(changed)
    diff = Patch("x", f"{message}---\n x | 1 +\n\n{text}-- \n2.39.5\n").diff
    assert diff.refusal() == ""
    assert diff.text == text
    assert set(diff.files()) == set(changed)
    assert set(diff.made()) == {name for name, (old, _) in changed.items() if not old}
    assert diff.deleted() == {name for name, (_, new) in changed.items() if not new}


@given(diffs(), st.data())
def test_a_patch_that_lost_a_changed_line_is_refused(
    changed: dict[str, tuple[list[str], list[str]]], data: st.DataObject
) -> None:
    """In a mail program, or by a wrong hand: nothing less is ever applied in silence."""
    lines = re.findall(r"[^\n]*\n", text_of(changed))
    body = [i for i, line in enumerate(lines) if _is_change(lines, i)]
    del lines[data.draw(st.sampled_from(body))]
    assert Patch("x", "".join(lines)).diff.refusal() != ""


def _is_change(lines: Sequence[str], at: int) -> bool:
    """Of a hunk, and no header."""
    begun = max(i for i in range(at + 1) if lines[i].startswith("diff --git ") or i == 0)
    hunks = [i for i in range(begun, at) if lines[i].startswith("@@ ")]
    return bool(hunks) and lines[at][:1] in ("+", "-")


SUBJECTS = st.text(
    st.characters(blacklist_categories=["C", "Z"], blacklist_characters="[]:"), max_size=40
).map(lambda text: f"x {text}")


def a_mail(subject: str, text: str, encoding: str) -> bytes:
    """As an mboxrd has it."""
    mail = EmailMessage()
    mail["Subject"] = subject
    mail.set_content(text, cte=encoding, charset="utf-8")
    quoted = re.sub(rb"^(>*From )", rb">\1", mail.as_bytes(), flags=re.MULTILINE)
    return readers.FROM.encode() + quoted + b"\n"


@given(
    st.lists(st.tuples(SUBJECTS, MESSAGES, diffs()), min_size=1, max_size=3),
    st.sampled_from(["8bit", "quoted-printable", "base64"]),
    st.randoms(use_true_random=False),
)
def test_a_series_comes_out_of_a_mailbox_as_it_went_in(
    patches: list[tuple[str, str, dict[str, tuple[list[str], list[str]]]]],
    encoding: str,
    chance: Any,
) -> None:
    """In whatever order its mails came, with a cover letter and a reply that quotes."""
    total = len(patches)
    wanted = [text_of(changed) for _, _, changed in patches]
    texts = [f"{patches[n][1]}---\n{diff}-- \n2.39\n" for n, diff in enumerate(wanted)]
    box = [
        a_mail(f"[PATCH v2 {number}/{total}] {subject}", text, encoding)
        for number, ((subject, _, _), text) in enumerate(zip(patches, texts, strict=True), 1)
    ]
    box.append(a_mail(f"[PATCH v2 0/{total}] cover", "what it is for\n", encoding))
    box.append(a_mail(f"Re: [PATCH v2 1/{total}] x", f"> {wanted[0]}\nyes\n", encoding))
    chance.shuffle(box)
    found = mails.series(b"".join(box), "series.mbx")
    assert [patch.diff.text for patch in found] == wanted
    assert [patch.text.rstrip("\n") for patch in found] == [text.rstrip("\n") for text in texts]


@given(
    st.binary(max_size=60), st.sampled_from([b"", readers.FROM.encode(), b"Subject: [PATCH] x\n"])
)
def test_any_bytes_are_a_series_or_refused(data: bytes, before: bytes) -> None:
    try:
        found = mails.series(before + data, "x")
    except UsageError as refused:
        assert str(refused)
        return
    assert found and all(patch.diff.text for patch in found)


# --- ELF -----------------------------------------------------------------------------------------

U64 = st.integers(0, (1 << 64) - 1)
ELF_NAMES = st.text(st.characters(min_codepoint=1, blacklist_categories=["Cs"]), max_size=8)
SECTIONS = st.builds(
    Section,
    name=ELF_NAMES,
    type=st.just(SHT_PROGBITS),
    flags=U64,
    align=st.sampled_from([0, 1, 4, 64]),
    data=st.binary(max_size=40),
) | st.builds(Section, name=ELF_NAMES, type=st.just(SHT_NOBITS), flags=U64, memory_size=U64)
SYMBOLS = st.builds(
    Symbol,
    name=ELF_NAMES,
    info=st.integers(0, 255),
    other=st.integers(0, 255),
    shndx=st.integers(0, 3) | st.just(SHN_ABS),
    value=U64,
    size=U64,
)


@given(
    st.sampled_from([livepatch, target]),
    st.sampled_from(["little", "big"]),
    st.lists(SECTIONS, max_size=3),
    st.lists(SYMBOLS, max_size=3),
    st.binary(max_size=8),
)
def test_an_object_is_read_as_it_was_written(
    make: Callable[[Any], Elf],
    byte_order: str,
    sections: list[Section],
    symbols: list[Symbol],
    trailing: bytes,
) -> None:
    base = make(byte_order)
    made = dataclasses.replace(
        base,
        sections=(*base.sections, *sections),
        symbols=(*base.symbols, *symbols),
        trailing=trailing,
    )
    data = write(made)
    found = elf_reader.read(data)
    assert write(found) == data
    assert (found.symbols, found.trailing) == (made.symbols, trailing)
    tables = {made.symbol_table, made.section_names, made.sections[made.symbol_table or 0].link}
    for index, (one, other) in enumerate(zip(found.sections, made.sections, strict=True)):
        assert index in tables or one == other


# --- kernel reports ------------------------------------------------------------------------------

PREFIXES = st.sampled_from(
    ["", "[    3.141592] ", "<4>[    3.141592][    T1] ", "login: [    9.0] "]
)
REPORTED = st.sampled_from(
    [line for text in readers.CONSOLES for line in text.decode().splitlines()]
)
CONSOLES = st.lists(
    st.tuples(PREFIXES, REPORTED | st.text(max_size=20)).map("".join), max_size=12
).map("\n".join)
QUIET = st.lists(
    st.sampled_from(["", "livepatch: enabling patch 'x'", "random: crng init done", "Oops", "$ ls"])
).map(lambda lines: "".join(f"[    1.000000] {line}\n" for line in lines))


@given(CONSOLES)
def test_any_console_is_read(text: str) -> None:
    found = kernelreports.reports(text)
    assert all(line and line in text for line in (*found, *kernelreports.refusals(text)))
    assert bool(found) == (kernelreports.crash_title(text) is not None)
    assert kernelreports.death_title(text) is None or found
    assert found or not kernelreports.frames(text)


@given(CONSOLES, QUIET)
def test_what_a_kernel_says_before_a_report_changes_nothing(text: str, quiet: str) -> None:
    for reads in (
        kernelreports.reports,
        kernelreports.crash_title,
        kernelreports.death_title,
        kernelreports.frames,
    ):
        assert reads(quiet + text) == reads(text)


# --- results.json --------------------------------------------------------------------------------

TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=6)
SECONDS = st.floats(0, 1e9)
STATES = st.builds(
    PatchState,
    objects=st.dictionaries(TEXTS, st.booleans(), max_size=2),
    functions=st.dictionaries(TEXTS, st.tuples(TEXTS), max_size=2),
)
ERRNOS = st.lists(st.integers(0, 4095), min_size=1, max_size=3).map(tuple)
DETAILS = st.one_of(
    st.none(),
    st.builds(Answers, ERRNOS, ERRNOS),
    st.builds(Reading, symbol=st.builds(KlpSymbol, TEXTS, TEXTS, st.integers(0, 9))),
    st.builds(Unread, TEXTS, TEXTS),
    st.builds(Shown, TEXTS, st.none() | TEXTS, st.none() | TEXTS),
    st.builds(Modules, st.tuples(TEXTS), st.tuples(TEXTS, TEXTS)),
    st.builds(Patched, TEXTS, st.none() | STATES, st.none() | STATES),
    st.builds(Health, reports=st.tuples(TEXTS), frames=st.tuples(TEXTS)),
)
CHECKS = st.builds(Check, subject=TEXTS, expected=TEXTS, seen=TEXTS, detail=DETAILS)
STEPS = st.builds(
    Step,
    event=EVENTS.map(orders.format_event),
    checks=st.lists(CHECKS, max_size=3).map(tuple),
    seconds=SECONDS,
    readback_seconds=SECONDS,
)
RESULTS = st.builds(
    CaseResult,
    case=st.builds(Case, TEXTS, TEXTS, ORDERS, TEXTS),
    arch=st.sampled_from(sorted(catalog.arches())),
    reason=TEXTS,
    steps=st.lists(STEPS, max_size=2).map(tuple),
    known_issue=TEXTS,
    reproduce=TEXTS,
    console=st.just(""),
    dmesg=st.just(""),
    qemu_argv=st.tuples(TEXTS),
    seconds=SECONDS,
    disassembly=st.just(""),
)


@given(st.lists(RESULTS, max_size=2))
def test_results_are_read_as_they_were_written(found: list[CaseResult]) -> None:
    run = a_run("one")
    text = results.document_text(run, found, [results.case_text(results.record(r)) for r in found])
    assert load_results(text) == (run, tuple(found))
    assert results.read_document(text).proof == proofs(found)


# --- files that are damaged ----------------------------------------------------------------------

BY_NAME = {each.name: each for each in readers.READERS}
TREES = ("results.json", "night.json", "set.toml", "known-issues.toml", "suite.toml", "arch.toml")
BYTES = ("elf-inspect", "elf-convert", "patch", "mail", "console", "results.json", "set.toml")
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["..", "/", "+klp_patch", "debian:6.1", "x86_64", "9" * 5000]),
)
VALUE = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """One for all examples."""
    with tempfile.TemporaryDirectory() as directory, limits():
        yield Path(directory)


@pytest.mark.parametrize("name", TREES)
@given(data=st.data())
def test_a_tree_with_another_value_in_it_is_read_or_refused(
    place: Path, name: str, data: st.DataObject
) -> None:
    known = BY_NAME[name]
    sample = data.draw(st.sampled_from(known.samples()))
    toml = name.endswith(".toml")
    tree = tomllib.loads(sample.decode()) if toml else json.loads(sample)
    holder, key = data.draw(st.sampled_from(list(mutate._places(tree))))
    holder[key] = data.draw(VALUE)
    text = mutate._toml(tree) if toml else json.dumps(tree)
    assert fault(known, text.encode(errors="replace"), place) == ""


@pytest.mark.parametrize("name", BYTES)
@given(data=st.data())
def test_a_file_with_other_bytes_in_it_is_read_or_refused(
    place: Path, name: str, data: st.DataObject
) -> None:
    known = BY_NAME[name]
    sample = data.draw(st.sampled_from(known.samples()))
    begin = data.draw(st.integers(0, len(sample)))
    end = data.draw(st.integers(begin, min(begin + 64, len(sample))))
    spoilt = sample[:begin] + data.draw(st.binary(max_size=64)) + sample[end:]
    if data.draw(st.booleans()):
        spoilt = spoilt[: data.draw(st.integers(0, len(spoilt)))]
    assert fault(known, spoilt, place) == ""

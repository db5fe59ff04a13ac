# SPDX-License-Identifier: GPL-2.0-only
"""Broken livepatch modules: each file is broken, and it is said what becomes of each."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from elf_samples import livepatch, table, with_functions
from samples import an_answer

from orchestrator import catalog
from orchestrator.commands.malformed import broken_set, cases, judged, speeds
from orchestrator.elf.klp import convert, klp_relocations
from orchestrator.elf.reader import read
from orchestrator.elf.writer import write
from orchestrator.errors import UsageError
from orchestrator.model import model, orders
from orchestrator.model.malformations import (
    ALONE,
    CHECKS_FIELD,
    CHECKS_FUNCTION_NAMES,
    CHECKS_SECTION_NAMES,
    MALFORMATIONS,
    PREFIX,
    REFUSES_APPLIED,
    REFUSES_NONE,
    SATURATES,
    TYPES_EINVAL,
    Ground,
    Refused,
    broken_how,
)
from orchestrator.model.words import SILENT, dead
from orchestrator.nouns import BuiltModule, BuiltSet, KlpSymbol, Load
from orchestrator.report.reproduce import words
from orchestrator.verdicts import CaseResult, Check, CheckKind, Run, Status, Step

FILE = convert(
    write(with_functions(livepatch())),
    [KlpSymbol(ALONE.target, "target_fn", 0), KlpSymbol(ALONE.target, "target_var", 2)],
    table=table,
)
GOOD = read(FILE)
NO_ELF = ("file-truncated", "section-beyond-file")
# of an order that loads the target first, the broken livepatch after it
TARGET_STEP = Step(
    "+klp_target", (Check(CheckKind.ANSWER, "", "success", "success", True),), 0, 0, 0
)
STEPS = (TARGET_STEP, Step("+klp_patch", (), 0.1, 0.1, 0))


def good(ground: Ground, tmp_path: Path) -> BuiltSet:
    """As if each of its livepatches were the same file."""
    module_set = catalog.module_set(ground.module_set)
    path = tmp_path / "klp_patch.ko"
    path.write_bytes(FILE)
    relocations = klp_relocations(GOOD, table, path.name)
    modules = {
        spec.name: BuiltModule(spec, path, relocations if spec.kind == "livepatch" else (), {})
        for spec in module_set.modules
    }
    return BuiltSet(module_set, modules)


@pytest.mark.parametrize("name", MALFORMATIONS)
def test_each_file_is_broken(name: str) -> None:
    broken = MALFORMATIONS[name].file(GOOD)
    assert broken != FILE
    if name in NO_ELF:
        with pytest.raises(UsageError, match="truncated"):
            read(broken)
    else:
        assert write(read(broken)) == broken


def test_no_two_are_alike() -> None:
    files = {(how.file(GOOD), how.ground) for how in MALFORMATIONS.values()}
    assert len(files) == len(MALFORMATIONS)


def test_a_name_that_is_null_is_one_that_is_never_written() -> None:
    broken = read(MALFORMATIONS["function-name-null"].file(GOOD))
    [(were, are)] = [
        (one.relas, other.relas)
        for one, other in zip(GOOD.sections, broken.sections, strict=True)
        if one.relas != other.relas
    ]
    assert are == were[1:] and [rela.offset for rela in were] == [0, 8]
    with pytest.raises(UsageError, match="no struct klp_func"):
        MALFORMATIONS["function-name-null"].file(livepatch())


@pytest.mark.parametrize("name", MALFORMATIONS)
def test_it_is_said_what_becomes_of_each(name: str) -> None:
    malformation = MALFORMATIONS[name]
    assert malformation.text
    assert re.search(r"\.c, \w+\(\)", malformation.where) or "nobody" in malformation.where
    assert bool(malformation.errno) == (malformation.refused is not Refused.NOT)


@pytest.mark.parametrize("name", MALFORMATIONS)
def test_the_model_expects_what_is_said(name: str, tmp_path: Path) -> None:
    malformation = MALFORMATIONS[name]
    ground = malformation.ground
    able = frozenset(
        {
            CHECKS_FIELD,
            CHECKS_FUNCTION_NAMES,
            CHECKS_SECTION_NAMES,
            REFUSES_APPLIED,
            REFUSES_NONE,
            SATURATES,
            "clears-on-refusal",
        }
    )
    broken = broken_set(good(ground, tmp_path), name, tmp_path / name, able)
    assert broken.modules[ground.livepatch].path.read_bytes() == malformation.file(GOOD)
    if ground.enabled:
        assert broken.modules[ground.enabled].path.read_bytes() == FILE
    answers = {
        case.name: [
            step.answers[0]
            for step, event in zip(
                model.expectations(broken.set, case.order, able), case.order.events, strict=True
            )
            if event != Load(ground.enabled)
        ]
        for case in cases([name])
    }
    wrong = malformation.errno
    gone = [2, 2]  # ENOENT: there is no livepatch to disable or to unload
    assert (
        answers
        == {
            Refused.LOADER: {"target-first": [0, wrong, *gone], "target-later": [wrong, 0, *gone]},
            Refused.OBJECT: {"target-first": [0, wrong, *gone], "target-later": [0, wrong, 0, 0]},
            Refused.NOT: {"target-first": [0] * 4, "target-later": [0] * 4},
        }[malformation.refused]
    )


@pytest.mark.parametrize("name", MALFORMATIONS)
def test_a_broken_module_has_a_signature_of_its_own(name: str, tmp_path: Path) -> None:
    built = good(MALFORMATIONS[name].ground, tmp_path)
    for each in built.modules.values():
        each.path.write_bytes(each.path.read_bytes() + b"signature of the good one")

    def sign(data: bytes, name: str) -> bytes:
        return data + b"signature"

    ground = MALFORMATIONS[name].ground
    broken = broken_set(built, name, tmp_path / name, frozenset(), sign)
    made = broken.modules[ground.livepatch].path.read_bytes()
    assert made == MALFORMATIONS[name].file(GOOD) + b"signature"


def test_what_a_kernel_does_not_look_for_makes_no_difference(tmp_path: Path) -> None:
    built = good(ALONE, tmp_path)
    broken = broken_set(built, "relocation-field", tmp_path / "field", frozenset())
    livepatches = [made.modules[ALONE.livepatch] for made in (built, broken)]
    assert livepatches[1].spec.defects == ()
    one, other = ([r.initial for r in each.klp_relocations] for each in livepatches)
    assert one != other


def test_nothing_is_promised_where_the_kernel_does_not_look(tmp_path: Path) -> None:
    broken = broken_set(good(ALONE, tmp_path), "section-alloc", tmp_path / "alloc", frozenset())
    assert broken.set.probes == ()
    assert broken.modules[ALONE.livepatch].klp_relocations == ()


def test_one_that_is_to_replace_another_finds_it_enabled() -> None:
    told = {c.name: orders.format(c.order) for c in cases(["function-name-null-replacing"])}
    assert told == {
        "target-first": "+klp_replaced +klp_first +klp_second klp_second=0 -klp_second",
        "target-later": "+klp_first +klp_second +klp_replaced klp_second=0 -klp_second",
    }


def test_cases_are_chosen_by_name_or_time() -> None:
    assert len(cases([])) == 2 * len(MALFORMATIONS)
    (case,) = cases(["section-alloc/target-later"])
    assert case.module_set == f"{PREFIX}section-alloc"
    assert orders.format(case.order).startswith("+klp_patch +klp_target")
    assert "not checked" in case.why and "klp_apply_object_relocs()" in case.why
    assert {c.name for c in cases(["section-alloc"])} == {"target-first", "target-later"}
    assert len(cases(["*/target-later"])) == len(MALFORMATIONS)
    with pytest.raises(UsageError, match="no malformation is called nonsense"):
        cases(["symbol-*", "nonsense"])


def test_the_line_that_reproduces_one_chooses_it_alone() -> None:
    (case,) = cases(["symbol-missing/target-first"])
    run = Run(("klp-e2e",), 0.0, "debian:6.1", (), 1)
    line = words(run, CaseResult(case, "sparc"))
    assert line[0] == "malformed" and line[-2:] == (
        "--only",
        f"{broken_how(case.module_set)}/{case.name}",
    )
    assert cases([line[-1]]) == (case,)
    known = words(run, CaseResult(case, "sparc", Status.KNOWN))
    assert known == (*line, "--strict")  # 1 when it is seen again


VERDICTS: Mapping[tuple[str, Status], Status] = {
    ("section-alloc", Status.FAIL): Status.KNOWN,
    ("section-alloc", Status.PASS): Status.PASS,
    ("section-alloc", Status.ERROR): Status.ERROR,
    ("symbol-missing", Status.FAIL): Status.FAIL,
}


@pytest.mark.parametrize(("name", "status"), VERDICTS)
def test_only_what_the_kernel_does_not_look_for_is_known(name: str, status: Status) -> None:
    case = cases([name])[0]
    result = judged(CaseResult(case, "sparc", status, "BUG: x", STEPS), frozenset())
    assert result.status is VERDICTS[name, status]
    assert bool(result.known_issue) == (result.status is Status.KNOWN)


def test_a_kernel_that_looks_is_not_excused() -> None:
    result = CaseResult(cases(["section-duplicate"])[0], "sparc", Status.FAIL, "", STEPS)
    assert judged(result, frozenset()).status is Status.KNOWN
    assert judged(result, {CHECKS_SECTION_NAMES}).status is Status.FAIL


def test_what_goes_wrong_with_the_one_that_is_replaced_is_not_known() -> None:
    case = cases(["function-name-null-replacing"])[0]
    for loaded, status in (2, Status.FAIL), (3, Status.KNOWN):
        steps = (*(TARGET_STEP,) * (loaded - 1), replace(TARGET_STEP, checks=(an_answer(seen=12),)))
        result = CaseResult(case, "sparc", Status.FAIL, "", steps)
        assert judged(result, frozenset()).status is status


@pytest.mark.parametrize("seen", ["ENOMEM (12)", SILENT])
@pytest.mark.parametrize("time", ["target-first", "target-later"])
def test_what_goes_wrong_before_the_module_is_there_is_not_known(seen: str, time: str) -> None:
    (case,) = cases([f"section-flag/{time}"])
    check = dead(None) if seen == SILENT else an_answer(seen=12)
    first = Step("", (check,), 0.1, 0.1, 0)
    status = Status.ERROR if seen == SILENT else Status.FAIL
    result = CaseResult(case, "sparc", status, "x", (first,))
    known = Status.KNOWN if time == "target-later" else status
    assert judged(result, frozenset()).status is known
    later = replace(result, steps=(TARGET_STEP, first))
    assert judged(later, frozenset()).status is Status.KNOWN


def test_a_guest_that_does_not_boot_is_no_malformation() -> None:
    crash = CaseResult(cases(["section-alloc"])[0], "sparc", Status.FAIL, "crash, while booting")
    assert judged(crash, frozenset()) == crash


def test_speed_is_that_of_a_warm_guest() -> None:
    result = CaseResult(cases(["symbol-*"])[0], "sparc", seconds=0.5)
    boot = replace(result, seconds=4.5, cold=True)
    assert speeds([boot, result, result]) == [
        "sparc: 120 modules a minute on a warm guest, 33 with 1 boots"
    ]


def test_a_kernel_may_have_another_errno_for_an_unknown_type(tmp_path: Path) -> None:
    name, able = "relocation-type", frozenset({TYPES_EINVAL})
    ground = MALFORMATIONS[name].ground
    answers = []
    for number, capabilities in enumerate((frozenset[str](), able)):
        broken = broken_set(good(ground, tmp_path), name, tmp_path / str(number), capabilities)
        (defect,) = broken.modules[ground.livepatch].spec.defects
        answers.append(defect.errno)
    assert answers == [errno.ENOEXEC, errno.EINVAL]

# SPDX-License-Identifier: GPL-2.0-only
"""The report card's pure parts: what Kconfig and C source tell, coverage, verdicts, rendering."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from samples import a_kernel, a_reading, a_result

from orchestrator import catalog
from orchestrator.build import kconfigtree, prepare
from orchestrator.cli.options import BuildOptions, RunOptions
from orchestrator.commands.port import boot, kernel, parts
from orchestrator.commands.port import work as porting
from orchestrator.commands.port.source import PortSource
from orchestrator.commands.run import work as orders_work
from orchestrator.errors import BuildError, ConfigError, Exit, HarnessError, KlpError, UsageError
from orchestrator.model import orders, words
from orchestrator.nouns import Case, Kernel, RelocationType
from orchestrator.port import archcheck, coverage, relocsource
from orchestrator.port import card as cards
from orchestrator.port.archcheck import Report
from orchestrator.port.archfile import FieldKind, Remark
from orchestrator.port.card import Line, Part, ReportCard, Verdict, card_exit_code
from orchestrator.port.coverage import Coverage
from orchestrator.port.relocsource import Handled
from orchestrator.report import cardjson as rendered
from orchestrator.report.cardjson import CardDirectory
from orchestrator.report.directory import ResultsDirectory
from orchestrator.report.progress import Reporter
from orchestrator.report.resultstext import plain
from orchestrator.verdicts import CaseResult, Check, CheckKind, RelocationState, Status, Step

# --- Kconfig -----------------------------------------------------------------------------------

KCONFIG = {
    "Kconfig": 'source "arch/$(SRCARCH)/Kconfig"\nsource "kernel/Kconfig"\nsource "gone/Kconfig"\n',
    "arch/toy/Kconfig": """
config TOY
	def_bool y
	select HAVE_TRACE if !BIG && \\
		TOY_CPU
	select HAVE_PLAIN # as everybody
	help
		Says what it is.

		select NOT_THIS

config TOY_CPU
	bool "toy's CPU" if EXPERT
	depends on $(cc-option,-mtoy)
""",
    "arch/other/Kconfig": "config OTHER\n\tdef_bool y\n\tselect HAVE_LIVEPATCH\n",
    "kernel/Kconfig": """
menu "tracing"
	depends on TRACING
if MODULES
config TRACE
	bool "trace"
	depends on HAVE_TRACE
config QUIET
	bool
	default y if TRACE
endif
config IN_MENU
	tristate "in menu"
endmenu
config HAVE_TRACE
	bool
config HAVE_PLAIN
	bool
config MODULES
	bool "modules"
""",
    "kernel/livepatch/Kconfig": """
config HAVE_LIVEPATCH
	bool
config LIVEPATCH
	bool "livepatch"
	depends on TRACE || HAVE_PLAIN
	depends on HAVE_LIVEPATCH
	depends on !QUIET
""",
}


@pytest.fixture(scope="module")
def tree() -> kconfigtree.KconfigTree:
    return kconfigtree.read(KCONFIG.get, "toy")


def test_kconfig_files_are_read_as_they_source_one_another(tree: kconfigtree.KconfigTree) -> None:
    assert "OTHER" not in tree.entries and "IN_MENU" in tree.entries
    assert tree.unsourced == {"HAVE_LIVEPATCH", "LIVEPATCH"}
    assert kconfigtree.demands(tree, "TRACE") == ("TRACING", "MODULES", "HAVE_TRACE")
    assert kconfigtree.demands(tree, "IN_MENU") == ("TRACING",)
    (select,) = tree.selects["HAVE_TRACE"]
    assert (select.by, select.condition.split()) == ("TOY", ["!BIG", "&&", "TOY_CPU"])
    assert select.place == "arch/toy/Kconfig:4"
    assert tree.selects["HAVE_PLAIN"][0].condition == ""
    assert "NOT_THIS" not in tree.selects
    assert tree.entries["TOY_CPU"][0].prompt and not tree.entries["HAVE_PLAIN"][0].prompt


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("A", True),
        ("M", True),
        ("!A", False),
        ("B || A && B", False),
        ("(B || A) && A", True),
        ('N = 4 && S != "x"', True),
        ("B = n", True),
        ("$(cc-option,-f(x)) || A", True),
        ("$(cc-option,-f(x)) && A", None),
        ("N > 3", None),
        ("A &&", None),
        ("A ~ B", None),
        ("", None),
    ],
)
def test_expressions_hold_or_not_or_nobody_knows(expression: str, holds: bool | None) -> None:
    config = {"A": "y", "M": "m", "N": "4", "S": '"y"'}
    assert kconfigtree.evaluate(expression, config) is holds


def test_an_option_that_is_off_has_reasons_down_to_the_last(tree: kconfigtree.KconfigTree) -> None:
    config = {"TOY": "y", "MODULES": "y", "TRACING": "y", "HAVE_PLAIN": "y"}
    assert kconfigtree.reasons(tree, "TRACE", config) == (
        "kernel/Kconfig:5: TRACE depends on HAVE_TRACE",
        "arch/toy/Kconfig:4: TOY has: select HAVE_TRACE if !BIG && TOY_CPU",
        "TOY_CPU is not asked for: CONFIG_TOY_CPU=y belongs into the fragment",
    )
    assert kconfigtree.reasons(tree, "LIVEPATCH", config) == (
        "arch/toy/Kconfig does not source kernel/livepatch/Kconfig",
        "kernel/livepatch/Kconfig:4: LIVEPATCH depends on HAVE_LIVEPATCH",
        "arch/toy/Kconfig does not select HAVE_LIVEPATCH, nor does anything else that this "
        "architecture reads",
    )
    assert kconfigtree.reasons(tree, "NONESUCH", config) == ("this kernel has no option NONESUCH",)
    assert kconfigtree.origin(tree, "HAVE_PLAIN", config) == "arch/toy/Kconfig:6: select HAVE_PLAIN"
    assert kconfigtree.origin(tree, "MODULES", config) == ""


def test_kconfig_lines_name_what_is_missing_and_what_to_do(tree: kconfigtree.KconfigTree) -> None:
    config = {"TOY": "y", "MODULES": "y", "TRACING": "y", "HAVE_PLAIN": "y", "QUIET": "y"}
    lines = {line.detail: line for line in cards.kconfig(tree, config, "config")}
    good = {name for name, line in lines.items() if line.verdict is Verdict.PASS}
    assert good == {"TRACE || HAVE_PLAIN"}
    assert lines["HAVE_LIVEPATCH"].advice == (cards.WHAT_TO_DO["HAVE_LIVEPATCH"],)
    assert lines["!QUIET"].obstacles == ("QUIET is on",)
    assert lines["HAVE_RELIABLE_STACKTRACE"].verdict is Verdict.FAIL


# --- what apply_relocate_add() handles ---------------------------------------------------------

HEADER = """
#define R_TOY_NONE 0
#define R_TOY_64	1	/* direct */
#define R_TOY_32 2
#define R_TOY_PC32 3
# define R_TOY_COPY 4
#define R_TOY_GOT 5
#define R_TOY_CALL 0x6
#define R_TOY64_CALL R_TOY_CALL
#define R_TOY_COUNTED 7
#define R_TOY_OLD 8
"""
SWITCH = """
static int count_stubs(const Elf64_Rela *rela)
{
	switch (rela->type) {
	case R_TOY_COUNTED:
		return 1;
	}
	return 0;
}

static int apply_one(Elf64_Rela *rela,
		void *(*write)(void *, const void *, size_t))
{
	switch (rela->type) {
	case R_TOY_NONE: /* case R_TOY_OLD: */
		break;
	case R_TOY_32:
#ifdef CONFIG_TOY_GOT
	case R_TOY_GOT:
#else
	case R_TOY_PC32:
#endif
		write(loc, "case R_TOY_OLD:", 4);
		break;
#if 0
	case R_TOY_OLD:
		write(loc, &val, 1);
#endif
	case R_TOY64_CALL: {
		write(loc, &val, 4);
		break;
	}
	case R_TOY_COPY:
		pr_err("%s: shared; \\"no\\"\\n", me->name);
		return -ENOEXEC;
	default:
		return -ENOEXEC;
	}
	return 0;
}

int apply_relocate_add(Elf64_Shdr *sechdrs)
{
	return apply_one(rela, memcpy);
}
"""
TABLE = """
static int refuse(struct module *me)
{
	pr_err("not this one\\n");
	return -EINVAL;
}

static int nothing(struct module *me)
{
	return 0;
}

static int apply_32(struct module *me)
{
	*(u32 *)location = v;
	return 0;
}

static int (*handlers[]) (struct module *me,
		Elf_Addr v) = {
	[R_TOY_NONE ... R_TOY_GOT]	= refuse,
	[R_TOY_NONE]			= nothing,
	[R_TOY_32]			= apply_32,
	[R_TOY_PC32...R_TOY_COPY]	= { .handler = apply_32, .more = refuse },
	[R_TOY_CALL]			= { .handler = refuse },
};

int apply_relocate_add(Elf64_Shdr *sechdrs)
{
	switch (type) {
	case R_TOY_CALL:
		err = emit_plt(me);
		break;
	default:
		err = handlers[type](me, v);
	}
	return err;
}
"""


def names(source: str, config: Mapping[str, str] | None) -> list[str]:
    """`NAME`, or `NAME-` where nothing is written for it."""
    found = relocsource.handled({"m.c": source}, {"elf.h": HEADER}, config)
    return [each.name + "-" * each.idle for each in found]


def test_case_labels_in_what_apply_relocate_add_calls() -> None:
    assert names(SWITCH, {}) == ["R_TOY_NONE-", "R_TOY_32", "R_TOY_PC32", "R_TOY64_CALL"]
    configured = names(SWITCH, {"TOY_GOT": "y"})
    assert configured == ["R_TOY_NONE-", "R_TOY_32", "R_TOY_GOT", "R_TOY64_CALL"]
    assert {"R_TOY_GOT", "R_TOY_PC32"} <= set(names(SWITCH, None))


def test_what_undoes_a_type_is_not_where_it_is_handled() -> None:
    undo = (
        "static void undo(int type)\n{\n\tswitch (type) {\n\tcase R_TOY_32:\n\t\tw();\n\t}\n}\n\n"
    )
    start = "int apply_relocate_add"
    both = SWITCH.replace("return apply_one(rela, memcpy);", "apply_one(r, m);\n\tundo(r);")
    found = relocsource.handled({"m.c": both.replace(start, undo + start)}, {"e.h": HEADER}, {})
    place = next(each.place for each in found if each.name == "R_TOY_32")
    assert place in [
        each.place for each in relocsource.handled({"m.c": SWITCH}, {"e.h": HEADER}, {})
    ]


def test_tables_of_handlers_whose_later_entries_count() -> None:
    assert names(TABLE, {}) == ["R_TOY_NONE-", "R_TOY_32", "R_TOY_PC32", "R_TOY_COPY", "R_TOY_CALL"]


def test_a_type_is_found_where_it_stands() -> None:
    found = relocsource.handled({"m.c": SWITCH}, {"elf.h": HEADER}, {})
    (call,) = [each for each in found if each.number == 6]
    number = int(call.place.removeprefix("m.c:"))
    assert SWITCH.splitlines()[number - 1].strip() == "case R_TOY64_CALL: {"


# --- coverage ----------------------------------------------------------------------------------

TABLE_ROWS = (
    RelocationType(name="R_TOY_64", number=1, bits=64, value="S + A"),
    RelocationType(name="R_TOY_CALL", number=6, bits=32, value="S + A - P"),
)


def test_coverage_has_a_row_for_what_kernel_or_gcc_know() -> None:
    known = [Handled("R_TOY_NONE", 0, "m.c:1", True), Handled("R_TOY64_CALL", 6, "m.c:2", False)]
    rows = coverage.coverage(TABLE_ROWS, known, {6: 2, 9: 1, 1: 4}, {1: 3}, {"R_TOY_CALL": 5})
    assert [(r.name, r.readable, r.livepatches, r.modules, r.late) for r in rows] == [
        ("R_TOY_NONE", False, 0, 0, 0),
        ("R_TOY_64", True, 4, 3, 0),
        ("R_TOY_CALL", True, 2, 0, 5),
        ("type 9", False, 1, 0, 0),
    ]
    gaps = {r.name: r.gap for r in rows}
    assert gaps["R_TOY_NONE"] == gaps["R_TOY_CALL"] == ""
    assert "does not take it" in gaps["R_TOY_64"] and "does not take it" in gaps["type 9"]
    assert "late" in Coverage("R", 1, "m.c:1", False, True, 1, 0, 0).gap
    assert "file" in Coverage("R", 1, "m.c:1", False, False, 1, 0, 0).gap


def relocation(livepatch: str, symbol: str, expected: str, good: bool = True) -> Check:
    owner, _, name = symbol.partition(":")
    applied = expected.startswith("resolves to")
    made = a_reading(
        "00",
        livepatch=livepatch,
        object=owner,
        symbol=name,
        type="R_TOY_64",
        initial="00",
        resolves_to=0x10 if good else 0x18,
        state=RelocationState.APPLIED if applied else RelocationState.UNRELOCATED,
    )
    assert made.good == good
    return made


@pytest.mark.parametrize(
    ("event", "check", "times"),
    [
        ("+tgt", relocation("lp", "tgt:f", "resolves to tgt:f,0 at 0x10"), 1),
        ("+tgt[a=1]", relocation("lp", "tgt:f", "resolves to tgt:f,0 at 0x10"), 1),
        ("+tgt", relocation("lp", "tgt:f", "resolves to tgt:f,0 at 0x10", good=False), 0),
        ("+tgt", relocation("lp", "tgt:f", "00, unrelocated"), 0),
        (
            "+lp",
            relocation("lp", "tgt:f", "resolves to tgt:f,0 at 0x10"),
            0,
        ),  # the target was first
        ("+filler", relocation("lp", "tgt:f", "resolves to tgt:f,0 at 0x10"), 0),
        ("+lp", relocation("lp", "vmlinux:f", "resolves to vmlinux:f,0 at 0x10"), 0),
        ("{+tgt +lp}", relocation("lp", "tgt:f", "resolves to tgt:f,0 at 0x10"), 0),
    ],
)
def test_late_is_when_the_target_comes_to_the_livepatch(
    event: str, check: Check, times: int
) -> None:
    other = Check(CheckKind.ANSWER, event, "success", "success", True)
    result = of_toy(Status.PASS, steps=(Step(event, (other, check), 0, 0, 1),))
    assert coverage.late([result])["R_TOY_64"] == times


# --- the card ----------------------------------------------------------------------------------

CASE = Case("one", "basic", orders.parse("+klp_target"))


def of_toy(status: Status, **changes: Any) -> CaseResult:
    return a_result(**{"case": CASE, "arch": "toy", "status": status, "reason": "", **changes})


def a_card(*lines: Line) -> ReportCard:
    return ReportCard("toy", "debian:6.1", (), ("klp-e2e", "port", "toy"), 0.0, "a host").put(
        *lines
    )


def every(verdict: Verdict) -> list[Line]:
    return [Line(part, verdict) for part in Part]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (every(Verdict.PASS), Exit.GOOD),
        ([*every(Verdict.PASS)[1:], Line(Part.FILES, Verdict.KNOWN)], Exit.GOOD),
        ([*every(Verdict.PASS)[1:], Line(Part.FILES, Verdict.SKIP)], Exit.HARNESS),
        ([*every(Verdict.SKIP)[1:], Line(Part.FILES, Verdict.FAIL)], Exit.TEST_FAILURE),
        ([*every(Verdict.FAIL)[1:], Line(Part.FILES, Verdict.WRONG)], Exit.USAGE),
        ([*every(Verdict.ERROR)[1:], Line(Part.FILES, Verdict.UNBUILT)], Exit.BUILD),
        ([*every(Verdict.UNBUILT)[1:], Line(Part.FILES, Verdict.FAIL)], Exit.TEST_FAILURE),
    ],
)
def test_the_exit_code_is_the_first_cause(lines: list[Line], code: Exit) -> None:
    assert card_exit_code(a_card(*lines)) is code


def test_a_card_begins_with_nothing_known_and_ends_early_as_harness() -> None:
    empty = a_card()
    assert [line.part for line in empty.lines] == list(Part)
    assert {line.verdict for line in empty.lines} == {Verdict.SKIP}
    early = replace(a_card(*every(Verdict.PASS)), trouble="interrupted")
    assert card_exit_code(early) is Exit.HARNESS
    assert cards.card_summary(early) == "15 PASS; interrupted"


def test_lines_stand_in_the_order_of_the_parts_whoever_comes_first() -> None:
    one, two = (Line(Part.KCONFIG, Verdict.PASS, detail=name) for name in ("A", "B"))
    made = a_card(Line(Part.CORE, Verdict.PASS)).put(one, two).put(Line(Part.HOST, Verdict.PASS))
    assert [line.part for line in made.lines if line.part is not Part.KCONFIG] == [
        part for part in Part if part is not Part.KCONFIG
    ]
    at = made.lines.index(one)
    assert made.lines[at : at + 2] == (one, two)
    assert made.bad(Part.BOOT) and not made.bad(Part.CORE, Part.KCONFIG)


@pytest.mark.parametrize(
    ("statuses", "planned", "verdict"),
    [
        ([Status.PASS, Status.PASS], 2, Verdict.PASS),
        ([Status.PASS, Status.KNOWN], 2, Verdict.KNOWN),
        ([Status.PASS, Status.ERROR, Status.KNOWN], 3, Verdict.ERROR),
        ([Status.FAIL, Status.ERROR], 2, Verdict.FAIL),
        ([Status.FIXED], 1, Verdict.FAIL),
        ([Status.SKIP, Status.SKIP], 2, Verdict.SKIP),
        ([Status.PASS], 2, Verdict.ERROR),
        ([Status.FAIL], 2, Verdict.FAIL),
        ([], 2, Verdict.SKIP),
    ],
)
def test_results_become_a_line(statuses: list[Status], planned: int, verdict: Verdict) -> None:
    results = [of_toy(status) for status in statuses]
    assert cards.judged(Part.CORE, results, "orders", planned=planned).verdict is verdict


def test_a_line_names_what_failed_first_and_how_to_see_it() -> None:
    results = [
        *(of_toy(Status.KNOWN, reason="listed", known_issue="an-id") for _ in range(3)),
        of_toy(Status.FAIL, reason="two\nlines", reproduce="klp-e2e run --again"),
    ]
    line = cards.judged(Part.CORE, results, "orders")
    assert line.evidence == ("orders: 1 FAIL, 3 KNOWN",)
    assert line.obstacles == (
        "FAIL basic/one: two lines",
        "KNOWN basic/one: listed (an-id), and 2 more of the kind",
    )
    assert line.advice == ("see it again: klp-e2e run --again",)


def test_deferred_relocation_is_proved_type_by_type() -> None:
    seen = Coverage("R_TOY_64", 1, "m.c:1", False, True, 4, 0, 7)
    unseen = Coverage("R_TOY_CALL", 6, "m.c:2", False, True, 1, 0, 0)
    good = of_toy(Status.PASS)
    bad = of_toy(
        Status.FAIL,
        steps=(Step("+tgt", (relocation("lp", "tgt:f", "resolves to", good=False),), 0, 0, 1),),
    )
    line = cards.deferred([good], [seen], planned=1)
    assert line.verdict is Verdict.PASS and "R_TOY_64 7 times" in line.evidence[0]
    line = cards.deferred([good], [seen, unseen], planned=1)
    assert line.verdict is Verdict.ERROR and "R_TOY_CALL" in line.obstacles[-1]
    assert cards.deferred([good, bad], [seen], planned=1).verdict is Verdict.FAIL
    assert (
        cards.deferred([good, replace(bad, status=Status.KNOWN)], [seen], planned=1).verdict
        is Verdict.KNOWN
    )
    assert cards.deferred([good], [seen], planned=2).verdict is Verdict.ERROR
    assert cards.deferred([], [seen], planned=1).verdict is Verdict.SKIP


def test_malformed_modules_are_counted_by_what_became_of_them() -> None:
    dead = Step("+tgt", (words.dead("BUG"),), 0, 0, 0)
    results = [of_toy(Status.PASS), of_toy(Status.KNOWN, steps=(dead,))]
    line = cards.malformed(results, planned=2)
    assert line.verdict is Verdict.KNOWN
    assert line.evidence[-1].endswith(
        "harmless: 1; not checked by this kernel: 1; of all, crashes: 1"
    )


@pytest.mark.parametrize(
    ("err", "verdict"),
    [
        (UsageError("a"), Verdict.WRONG),
        (BuildError("a"), Verdict.UNBUILT),
        (HarnessError("a"), Verdict.ERROR),
    ],
)
def test_trouble_is_told_apart(err: KlpError, verdict: Verdict) -> None:
    err.args = ("one\n  two",)
    err.hint = "do this"
    line = cards.troubled(Part.BUILD, err)
    assert (line.verdict, line.evidence, line.obstacles) == (verdict, ("one",), ("two",))
    assert line.advice == ("do this",)


def test_a_reload_is_a_target_that_comes_twice() -> None:
    def case(order: str) -> Case:
        return Case("", "basic", orders.parse(order))

    assert parts.reloaded(case("+klp_patch +klp_target -klp_target +klp_target"))
    assert parts.reloaded(case("+klp_patch +klp_target (-klp_target +klp_target)*2"))
    assert not parts.reloaded(case("+klp_patch +klp_target +filler -filler +filler"))


def test_the_whole_card_leaves_big_sets_to_explore() -> None:
    scope = parts.whole()
    assert set(scope.explored) | set(scope.unexplored) == set(catalog.module_sets())
    assert "basic" in scope.explored and "refusing" in scope.unexplored


# --- the card on paper -------------------------------------------------------------------------

HOSTILE = "<script>alert('x')</script> & [bold]\"`\u202e"


class Page(HTMLParser):
    """Its tags with their attributes, and that every one is closed."""

    VOID = ("meta", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def hostile() -> ReportCard:
    line = Line(
        Part.CORE,
        Verdict.FAIL,
        (HOSTILE,),
        (HOSTILE,),
        (HOSTILE,),
        ('core/"a b".json', "javascript:alert(1)"),
        detail=HOSTILE,
    )
    row = Coverage(HOSTILE, 1, HOSTILE, False, True, 1, 0, 0)
    return replace(a_card(line), coverage=(row,), coverage_note=HOSTILE, trouble=HOSTILE)


def test_the_page_is_static_and_escapes_what_it_shows() -> None:
    text = rendered.page(hostile())
    page = Page(text)
    kinds = {tag for tag, _ in page.tags}
    assert not kinds & {"script", "img", "link", "iframe"}
    assert {"main", "table", "th"} <= kinds
    assert "&lt;script&gt;" in text and "prefers-color-scheme" in text
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert "javascript%3Aalert%281%29" in links and "core/%22a%20b%22.json" in links
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")


def test_the_text_has_every_line_and_takes_brackets_as_they_are() -> None:
    text = plain(rendered.card_report(hostile()))
    assert "[bold]" in text
    assert all(str(part) in text for part in Part)


def test_a_card_survives_its_directory(tmp_path: Path) -> None:
    made = replace(hostile(), trouble="")
    with CardDirectory(tmp_path / "c", made) as writer:
        pass
    read = rendered.load_card(tmp_path / "c")
    assert read.lines[0] == made.lines[0] and read.finished is not None
    document = json.loads((tmp_path / "c" / "card.json").read_text())
    assert (document["schema"], document["exit_code"]) == (1, 1)
    assert writer.card.trouble == ""
    assert "core suite" in (tmp_path / "c" / "card.txt").read_text()


def test_an_interrupted_card_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), CardDirectory(tmp_path / "c", a_card()):
        raise KeyboardInterrupt
    read = rendered.load_card(tmp_path / "c")
    assert read.trouble == "interrupted"
    assert {line.evidence for line in read.lines} == {("not done: interrupted",)}


# --- from options to lines ---------------------------------------------------------------------


class Quiet(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_wrong_files_are_told_and_nothing_else_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "toy.toml"
    file.write_text('kernel_arch = "toy"\n')
    remark = Remark("qemu", "missing", kind=FieldKind.WRONG)
    monkeypatch.setattr(archcheck, "check", lambda *_: [Report(file, (remark,))])
    scope = parts.Scope()
    wanted = porting.PortOptions(str(file), "debian:6.1", (), 1, scope, tmp_path / "c")
    writer = porting.begin(wanted, ("klp-e2e", "port"))
    porting.make(wanted, writer, Quiet())
    first, *others = writer.card.lines
    assert (first.verdict, first.obstacles) == (Verdict.WRONG, ("qemu: missing",))
    assert {line.verdict for line in others} == {Verdict.SKIP}
    assert card_exit_code(writer.card) is Exit.USAGE


def a_toy_kernel(directory: Path) -> Kernel:
    for name in ("image", "config"):
        (directory / name).write_text("CONFIG_MODULES=y\n")
    return a_kernel("toy", directory)


def source(tree: kconfigtree.KconfigTree) -> PortSource:
    return PortSource(Path(), {}, "arch/toy", tree)


def test_a_kernel_that_cannot_have_livepatch_is_built_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: kconfigtree.KconfigTree
) -> None:
    (arch, *_) = catalog.arches().values()
    built = BuildOptions((arch,), "debian:6.1", (), 1)
    asked: list[Sequence[str]] = []

    def kernels(*_: object, without: Sequence[str], **__: object) -> tuple[Kernel]:
        asked.append(tuple(without))
        if not without:
            raise ConfigError("it does not take it:\nLIVEPATCH became n", final="CONFIG_A=y\n")
        return (a_toy_kernel(tmp_path),)

    lost = ("SYSFS", "LIVEPATCH")
    request = "".join(f"CONFIG_{name}=y\n" for name in lost)
    monkeypatch.setattr(kernel, "configuration", lambda _: request)
    monkeypatch.setattr(prepare, "kernels", kernels)
    outcome = kernel.build(built, source(tree), Quiet())
    assert asked == [(), ("LIVEPATCH",)]
    told = [(line.detail, line.verdict) for line in outcome.lines]
    assert told == [("with livepatch", Verdict.FAIL), ("without livepatch", Verdict.PASS)]
    assert outcome.kernel is not None and not outcome.livepatch
    assert outcome.config == {"A": "y"}
    assert "not asked for: LIVEPATCH" in outcome.lines[1].evidence


def test_a_kernel_that_does_not_build_is_told_as_unbuilt(
    monkeypatch: pytest.MonkeyPatch, tree: kconfigtree.KconfigTree
) -> None:
    (arch, *_) = catalog.arches().values()

    def kernels(*_: object, **__: object) -> tuple[Kernel]:
        raise BuildError("a.c:1: error", "the whole log: x")

    monkeypatch.setattr(prepare, "kernels", kernels)
    outcome = kernel.build(BuildOptions((arch,), "x", (), 1), source(tree), Quiet())
    (line,) = outcome.lines
    assert (line.verdict, outcome.kernel) == (Verdict.UNBUILT, None)


@pytest.mark.parametrize("ending", [HarnessError("no guest", "look"), KeyboardInterrupt()])
def test_a_part_that_ends_early_says_what_it_knew(
    ending: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (arch, *_) = catalog.arches().values()
    told: dict[Part, Line] = {}

    def run(asked: RunOptions, writer: ResultsDirectory, _: Reporter) -> None:
        writer.add(CaseResult(CASE, arch.name, Status.PASS))
        raise ending

    monkeypatch.setattr(orders_work, "run_orders", run)
    made = parts.Parts(
        BuildOptions((arch,), "debian:6.1", (), 1),
        parts.Scope(core=(CASE, replace(CASE, name="two"))),
        tmp_path,
        ("klp-e2e", "port"),
        Quiet(),
        lambda lines: told.update((line.part, line) for line in lines),
        lambda results: (),
    )
    if isinstance(ending, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            made.run_parts()
        assert Part.EXPLORE not in told
        assert "only 1 of 2 ran" in told[Part.CORE].obstacles
    else:
        made.run_parts()
        assert told[Part.EXPLORE].verdict is Verdict.SKIP  # and is not kept from being done
        assert told[Part.VMLINUX].evidence == ("no guest",)
        assert told[Part.CORE].advice == ("look",) and "no guest" in told[Part.CORE].obstacles
    assert told[Part.CORE].verdict is Verdict.ERROR
    assert "orders: 1 PASS" in told[Part.CORE].evidence


def test_ordinary_modules_are_a_set_without_its_livepatches() -> None:
    module_set = boot.ordinary(catalog.module_set(boot.MODULE_SET))
    assert {spec.name for spec in module_set.modules} == {"klp_target", "filler"}
    assert all(probe.original and not probe.patched for probe in module_set.probes)
    for order in boot.ORDERS.values():
        orders.parse(order, module_set)


def test_a_range_of_billions_is_those_that_are_known() -> None:
    header = (
        "#define R_TOY_A 0\n#define R_TOY_B 010\n#define R_TOY_C 7\n#define R_TOY_D 0xffffffff\n"
    )
    source = (
        "int apply_relocate_add(void)\n{\n\tswitch (type) {\n"
        "\tcase R_TOY_A ... R_TOY_D:\n\t\t*x = 1;\n\t}\n}\n"
    )
    found = relocsource.handled({"m.c": source}, {"elf.h": header}, {})
    assert [(each.name, each.number) for each in found] == [
        *(("R_TOY_A", 0), ("R_TOY_C", 7), ("R_TOY_D", 0xFFFFFFFF))
    ]
    assert {each.place for each in found} == {"m.c:4"}


def test_what_is_never_closed_hides_the_rest() -> None:
    assert relocsource.handled({"m.c": "/*" * 300_000}, {}, {}) == ()
    assert kconfigtree.evaluate("(" * 100_000, {}) is None

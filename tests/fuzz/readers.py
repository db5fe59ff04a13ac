# SPDX-License-Identifier: GPL-2.0-only
"""What is fuzzed: each reader with good samples, ways to spoil them, and what is then done with
what was read, for a file that is believed fails later otherwise."""

from __future__ import annotations

import dataclasses
import functools
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from announce_samples import CHANGES as SOME_CHANGES
from announce_samples import NIGHT as SOME_NIGHT
from elf_samples import (
    CALL,
    SYMTAB,
    TEXT,
    append,
    livepatch,
    symbol,
    target,
    with_section,
)
from elf_samples import table as TABLE
from harness import Reader
from history_samples import a_result, a_run, a_suite, an_ablation, an_exploration
from mutate import BYTES, ELF, JSON, LINES, TOML
from patchtable_samples import DATA, LAYOUT, Objects, a_module
from pydantic import TypeAdapter

from orchestrator import catalog, kernelreports
from orchestrator.announce import files, mail, summary
from orchestrator.build import declared, image, kconfig, kconfigtree, outside, prebuilt
from orchestrator.cli import options
from orchestrator.commands import inspect as inspecting
from orchestrator.commands.bisect import work
from orchestrator.commands.bisect.halving import Seen
from orchestrator.commands.nightly import config as nightly_config
from orchestrator.commands.nightly import plan
from orchestrator.elf import klp, klpformat, reader, relocation
from orchestrator.elf.inspection import inspect
from orchestrator.elf.records import SHF_INFO_LINK, SHT_RELA, ByteOrder, Elf, Rela, Section
from orchestrator.elf.writer import write
from orchestrator.history import changes, checked, digest, nights, parts
from orchestrator.history import files as history_files
from orchestrator.model import issuecheck, known, memory, model, orders, suite
from orchestrator.model.findings import Signature
from orchestrator.nouns import KlpSymbol, ModuleSpec
from orchestrator.pages import logs
from orchestrator.port import archfile, card, relocsource
from orchestrator.port.card import ReportCard
from orchestrator.report import cardjson as report_card
from orchestrator.report import (
    directory,
    explorejson,
    exploretext,
    resultstext,
    trialsjson,
    trialstext,
    verdict,
)
from orchestrator.report.junit import junit
from orchestrator.report.ktap import ktap
from orchestrator.repro import record as bundle_record
from orchestrator.repro.record import KernelRecord, Record
from orchestrator.run import selftests
from orchestrator.source import mails, patches
from orchestrator.source.patches import Patch
from orchestrator.verdicts import Check, CheckKind, Status
from orchestrator.vm import agent

HERE = Path(__file__).parents[2]
SETS = catalog.module_sets()
BASIC = SETS["basic"]
DIFF = (
    "diff --git a/fs/one.c b/fs/one.c\nindex 1234567..89abcde 100644\n--- a/fs/one.c\n"
    "+++ b/fs/one.c\n@@ -1,2 +1,2 @@\n-a\n+b\n c\n"
)


def lines(*texts: str) -> list[bytes]:
    return [text.encode(errors="surrogateescape") for text in texts]


# --- ELF -----------------------------------------------------------------------------------------


def converted(elf: Elf) -> bytes:
    symbols = [KlpSymbol("the_target", name, 0) for name in ("target_fn", "hidden")]
    return klp.convert(write(elf), symbols, table=TABLE, name="sample")


@functools.cache
def modules() -> list[bytes]:
    little = [write(livepatch()), write(target()), converted(livepatch())]
    return [*little, write(livepatch("big")), converted(livepatch("big"))]


def inspected(data: bytes, place: Path) -> None:
    elf = reader.read(data)
    reader.definitions(elf)
    klpformat.modinfo(elf)
    klpformat.dependencies(elf)
    prebuilt.exports(data, "x.ko")
    found = inspect(data, table=TABLE, name="x.ko")
    inspecting.json_text(found)
    inspecting.plain_text(found, catalog.arch("x86_64"))


def written_anew(data: bytes, place: Path) -> None:
    write(reader.read(data))
    symbols = [KlpSymbol("the_target", name, 0) for name in ("target_fn", "target_var", "hidden")]
    made = klp.convert(data, symbols, table=TABLE, name="x.ko")
    klp.klp_relocations(reader.read(made), TABLE, "x.ko")
    klp.auto_symbols(data, write(target()), "the_target", given=())


def large_modules() -> list[bytes]:
    """Very many sections, symbols and relocations; names as long as they may be."""
    flags = SHF_INFO_LINK | 0x00100002
    many = tuple(
        Section(
            f".klp.rela.o{n}.text",
            SHT_RELA,
            flags,
            0,
            SYMTAB,
            TEXT,
            8,
            24,
            relas=(Rela(4, CALL, 4, 0),),
        )
        for n in range(3000)
    )
    base = livepatch()
    sections = dataclasses.replace(base, sections=base.sections + many)
    named = (*base.symbols, *(symbol(f".klp.sym.o.f{n},0", 0xFF20) for n in range(8000)))
    relas = tuple(Rela(4, CALL, 9 + n, 0) for n in range(8000))
    klp_relas = Section(".klp.rela.o.text", SHT_RELA, flags, 0, SYMTAB, TEXT, 8, 24, relas=relas)
    symbols = append(dataclasses.replace(base, symbols=named), klp_relas)
    long = (*base.symbols, symbol(f".klp.sym.o.{'f' * 2000},0", 0xFF20))
    one = tuple(Rela(4, CALL, 9, 0) for _ in range(8000))
    repeated = append(
        dataclasses.replace(base, symbols=long), dataclasses.replace(klp_relas, relas=one)
    )
    info = with_section(base, 6, lambda s: dataclasses.replace(s, data=b"depends=a,\0" * 50000))
    return [write(each) for each in (sections, symbols, repeated, info)]


def declaring(*each: tuple[ByteOrder, Objects]) -> list[bytes]:
    states = [(1, 2), (0, 0)]
    return [write(a_module(objects, byte_order=order, states=states)) for order, objects in each]


DECLARED: Objects = {None: [("f", 0)], "t": [("h", 1)]}


def compared_with_toml(data: bytes, place: Path) -> None:
    patches = {"vmlinux": ("f",), "t": ("h,1",)}
    spec = ModuleSpec("p", "livepatch", patches=patches, states={"1": 2})
    declared.check(spec, data, LAYOUT, place / "set.toml")


def shared_tables() -> list[bytes]:
    """Very many objects of which each has the same, many functions, or the same long name."""
    objects: Objects = {f"t{n}": [] for n in range(3_000)}
    base = a_module({**objects, "last": [("f", 0)] * 3_000})
    [relas] = (s for s in base.sections if s.type == SHT_RELA)
    largest = max(r.addend for r in relas.relas if r.symbol == DATA)
    shared = tuple(
        dataclasses.replace(r, addend=largest) if r.symbol == DATA and r.offset > 64 else r
        for r in relas.relas
    )
    many = tuple(
        dataclasses.replace(s, relas=shared) if s.type == SHT_RELA else s for s in base.sections
    )
    unlike: Objects = {"t": [(f"f{n}", 0) for n in range(5_000)]}
    long: Objects = {"n" * 10**6: [("f", 0)] * 1000}
    shown = write(dataclasses.replace(base, sections=many))
    return [shown, *declaring(("big", unlike), ("little", long))]


# --- patches, mails, orders ----------------------------------------------------------------------


@functools.cache
def diffs() -> list[bytes]:
    ours = sorted((HERE / "kernel-config").rglob("*.patch"))[::25]
    moved = "diff --git a/x y.c b/z.c\nsimilarity index 100%\nrename from x y.c\nrename to z.c\n"
    quoted = DIFF.replace("b/fs/one.c", '"b/fs/\\303\\244.c"')
    gone = "--- a/gone.S\t2024-01-01\n+++ /dev/null\n@@ -1 +0,0 @@\n-1\n"
    return [*(path.read_bytes() for path in ours), *lines(DIFF, f"why\n---\n{moved}{gone}", quoted)]


def patched(data: bytes, place: Path) -> None:
    patch = Patch("p", patches.decoded(data))
    diff = patch.diff
    diff.files(), diff.made(), diff.deleted(), diff.refusal(), patch.digest


def long_diffs() -> list[bytes]:
    many = "".join(DIFF.replace("one", f"one{n}") for n in range(5000))
    return lines(
        *(DIFF.replace("+b", "+" + "b" * 10**6), DIFF.replace("-1,2", f"-{'9' * 10**6},2"), many),
        *("diff --git a/" + "x " * 100_000 + "\n", "--- " * 200_000, "--- a\n" * 100_000),
        *(DIFF.replace("one.c", '"' * 100_000), "diff --git " + "/ " * 100_000, "@@ " * 100_000),
        DIFF + "\\ No newline\n" * 50_000,
    )


FROM = "From git@z Thu Jan  1 00:00:00 1970\n"


def mailboxes() -> list[bytes]:
    def mail_of(subject: str, body: str, *headers: str) -> str:
        return "".join(
            [FROM, f"Subject: {subject}\n", *(f"{h}\n" for h in headers), "\n", body, "\n"]
        )

    mime = 'Content-Type: multipart/mixed; boundary="B"'
    part = f"--B\nContent-Type: text/x-patch\n\n{DIFF}\n--B--\n"
    flowed = "Content-Type: text/plain; format=flowed; delsp=yes"
    coded = "=?utf-8?q?=5BPATCH_1/1=5D_livepatch=3A_=C3=BC?="
    return lines(
        mail_of("[PATCH 0/2] cover", "words\n")
        + mail_of("[PATCH 1/2] a", f"why\n---\n{DIFF}-- \n2.39\n", "Message-ID: <1@z>")
        + mail_of("[PATCH 2/2] b", f"why\n>From him\n{DIFF}", "Message-ID: <2@z>")
        + mail_of("Re: [PATCH 1/2] a", f"> {DIFF}"),
        mail_of("[PATCH] a", part, mime) + mail_of("Re: x", "y"),
        mail_of(coded, DIFF, flowed, "Content-Transfer-Encoding: quoted-printable"),
        f"Subject: x\nDate: today\n\n{DIFF}",
        DIFF,
    )


def large_mails() -> list[bytes]:
    deep = "".join(f'Content-Type: multipart/mixed; boundary="{n}"\n\n--{n}\n' for n in range(3000))
    flat = "Content-Type: multipart/mixed; boundary=B\n\n" + "--B\n\nx\n" * 30_000
    head = f"{FROM}Subject: [PATCH] a\n"
    return lines(
        *("From " + "1:11 1111 " * 100_000 + "\n", head + deep, deep, head + flat),
        head + "Content-Type: text/plain;" + "a=b;" * 100_000 + f"\n\n{DIFF}",
        f"{FROM}Subject: [PATCH] {'=?a?q?' * 100_000}\n\n{DIFF}",
        f"{FROM}Subject: {'[' * 100_000}\n\n{DIFF}",
        f"{FROM}Subject: [PATCH] {'1/' * 100_000}\n\n{DIFF}",
        *(f"{FROM}X: {'y' * 10**6}\n\n{DIFF}", head + "X:\n" * 50_000 + f"\n{DIFF}", head * 10_000),
        head + "\n" + ">" * 10**6,
        head + "\n" + "From \n" * 100_000,
    )


def ordered(data: bytes, place: Path) -> None:
    shown = data.decode(errors="replace")
    order = orders.parse(shown, BASIC)
    assert orders.parse(orders.format(order)) == order


ORDERS = lines(
    "+klp_patch +klp_target -klp_target +klp_target",
    "+klp_target[a=1,b=x] klp_patch=0 klp_patch=1 klp_target.a=5",
    "{+klp_patch +klp_target -filler} (+klp_target -klp_target)*100 +klp_patch",
)
LONG_ORDERS = lines(
    *("(" * 100_000, "{" * 100_000, "+klp_patch " * 50_000, "+" + "a" * 10**6, " " * 10**6),
    *(
        "(+klp_target -klp_target)*" + "9" * 5000,
        "(+klp_target)*\u00b2",
        "+klp_target[" + "a=b," * 10**5,
    ),
)


# --- TOML ----------------------------------------------------------------------------------------


def own(*patterns: str) -> Callable[[], Sequence[bytes]]:
    return lambda: [path.read_bytes() for p in patterns for path in sorted(HERE.glob(p))]


def module_set_files() -> list[bytes]:
    """Without their names, which are their directories'."""
    texts = [path.read_text() for path in sorted(HERE.glob("images/modules/*/set.toml"))]
    return lines(*(re.sub(r"(?m)^name = .*\n", "", text, count=1) for text in texts))


def a_module_set(data: bytes, place: Path) -> None:
    (place / "mine").mkdir(exist_ok=True)
    (place / "mine/set.toml").write_bytes(data)
    found = catalog.module_set(str(place / "mine"))
    for case in suite.usual("mine", found)[:20]:
        orders.check(case.order, found)
        model.expectations(found, case.order, frozenset())


def an_arch(data: bytes, place: Path) -> None:
    path = place / "toy.toml"
    path.write_bytes(data)
    draft = archfile.read(path)
    list(draft.run_checks(archfile.CHECKS))
    arch = catalog.arch(str(path))
    rows = relocation.table(arch.relocations)
    inspect(converted(livepatch()), table=rows, name="x.ko")


def a_suite_file(data: bytes, place: Path) -> None:
    (place / "s.toml").write_bytes(data)
    suite.expand(catalog.load_toml(place / "s.toml", suite.SuiteFile), SETS)


def a_night_file(data: bytes, place: Path) -> None:
    (place / "n.toml").write_bytes(data)
    asked = catalog.load_toml(place / "n.toml", nightly_config.Config)
    read = plan.Reader(
        targets=lambda names: [plan.Target(name, name) for name in names or ("one",)],
        source=str,
        stack=tuple,
        known_issues=tuple,
        seconds=options.seconds,
    )
    jobs = plan.expand(asked, read)
    budget = options.seconds(asked.budget)
    plan.left_out(jobs, budget, max(asked.guests, 1))


ISSUE_NAMES = issuecheck.Names(
    arches=tuple(catalog.arches()),
    capabilities=("clears-on-unload", "clears-on-refusal"),
    series=("livepatch-reload",),
    sets=SETS,
    cases=options.suite_cases(options.SUITE),
)


def known_issues(data: bytes, place: Path) -> None:
    (place / "k.toml").write_bytes(data)
    for issue in catalog.load_toml(place / "k.toml", known.KnownIssuesFile).issue:
        issuecheck.check(issue, ISSUE_NAMES, "k.toml")


def capabilities(data: bytes, place: Path) -> None:
    (place / "c.toml").write_bytes(data)
    declared = catalog.load_toml(place / "c.toml", known.CapabilitiesFile)
    known.capabilities(declared.capability, (6, 1), "s390x", ("livepatch-reload",))


def a_recipe(data: bytes, place: Path) -> None:
    (place / "recipe.toml").write_bytes(data)
    catalog.load_toml(place / "recipe.toml", image.Recipe)


LARGE_TOML = lines(
    *("a = " + "[" * 100_000, "[" * 100_000, "a." * 400_000 + "b = 1", "[[a]]\n" * 100_000),
    *("a = " + "9" * 100_000, "a = {" * 50_000, 'a = "' + "x" * 10**6, "a = 1\n" * 100_000),
    "\n".join(f"k{n}.{'.'.join('a' * 90)} = 1" for n in range(3000)),
)


# --- JSON ----------------------------------------------------------------------------------------


def made_by(make: Callable[[Path], Path], name: str) -> Callable[[], Sequence[bytes]]:
    @functools.cache
    def samples() -> Sequence[bytes]:
        with tempfile.TemporaryDirectory() as place:
            return [(make(Path(place) / "d") / name).read_bytes()]

    return samples


def document(name: str, use: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """`name` in a directory that is then used."""

    def read(data: bytes, place: Path) -> object:
        (place / name).write_bytes(data)
        return use(place)

    return read


def results(place: Path) -> Path:
    states = (Status.PASS, Status.FAIL, Status.KNOWN)
    return a_suite(
        place, a_run("one", "two"), *(a_result("one", s, str(s).lower()) for s in states)
    )


def told_results(place: Path) -> None:
    run, found = directory.read(place)
    resultstext.plain(resultstext.results_report(run, found))
    verdict.results_exit_code(run, found), junit(run, found), ktap(run, found)
    compared(place)


def compared(place: Path) -> None:
    """Any results as a night, with themselves."""
    night = history_files.read(place)
    changes.changes(night, night, {})


def told_night(place: Path) -> None:
    """And all that is announced of it."""
    night = history_files.read(place)
    digest.digest(night, SOME_CHANGES)
    mail.mail(night, SOME_CHANGES), summary.night_markdown(night, SOME_CHANGES)
    (place / "out").mkdir(exist_ok=True)
    files.write(place / "out", night, SOME_CHANGES)
    history_files.configs(place, night, place, night)


def merged_part(place: Path) -> None:
    """With all that may go from its directory to a night's: nothing outside of the two."""
    given = parts.Given(str(place), history_files.read(place))
    made = parts.merged([given], "2026-02-01-020000")
    (place / "out").mkdir(exist_ok=True)
    history_files.write(place / "out", made.night)
    assert history_files.document(place / "out").parts == made.night.parts
    for copy in made.copies:
        assert checked.is_inside(copy.source) and checked.is_inside(copy.goal), copy
        assert copy.goal.startswith(("jobs/", "again/", "bisects/", "inputs/")), copy
        assert not copy.goal.startswith("inputs/series"), copy


def told_exploration(place: Path) -> None:
    (place / explorejson.JOURNAL).unlink(missing_ok=True)
    found = explorejson.load_exploration(place)
    resultstext.plain(exploretext.exploration_report(found))
    explorejson.exploration_exit_code(found)
    [explorejson.findings(campaign) for campaign in found.campaigns]
    compared(place)


def told_trials(place: Path) -> None:
    found = trialsjson.load_trials(place)
    resultstext.plain(trialstext.trials_report(found))
    trialstext.trials_exit_code(found)
    compared(place)


def told_card(place: Path) -> None:
    found = report_card.load_card(place)
    resultstext.plain(report_card.card_report(found))
    report_card.page(found), report_card.document(found), card.card_exit_code(found)


def told_journal(place: Path) -> None:
    list(explorejson.journal(place))


def a_bundle() -> Sequence[bytes]:
    check = Check(CheckKind.ANSWER, "answer", "success", "ENOEXEC (8)", False)
    kernel = KernelRecord("0123", "debian:6.1", "6.1.1", ("s",), "6.1.1", (6, 1), "gcc", ())
    names = [bundle_record.KERNEL, bundle_record.SYSTEM_MAP, bundle_record.USERLAND]
    names += [f"{bundle_record.SET}/set.toml"]
    record = Record(
        1, "x86_64", kernel, "reload", "basic", "+klp_patch", "why", 0,
        Signature("+klp_patch", "answer", "ENOEXEC (8)"), check, (check,), "", 3, 4, "QEMU 7.2",
        ("qemu-system-x86_64",), dict.fromkeys(names, "0" * 64),
    )  # fmt: skip
    return [TypeAdapter(Record).dump_json(record)]


LARGE_JSON = lines(
    *("[" * 10**6, '{"a":' * 100_000, "9" * 10**6, '"' + "x" * 10**6, '{"schema": ' + "[" * 10**5),
)


# --- texts ---------------------------------------------------------------------------------------


def options_of(data: bytes, place: Path) -> None:
    shown = data.decode(errors="replace")
    if not kconfig.unreadable(shown):
        merged = kconfig.merge((shown, "CONFIG_A=y\n"))
        lost = kconfig.lost(merged, shown)
        kconfig.explain(lost, kconfigtree.read(lambda _: "config A\n\tdepends on B\n", "x"), shown)
    archfile_fragment = place / "toy.config"
    archfile_fragment.write_bytes(data)
    base = catalog.data_dir("kernel-config") / "base.config"
    list(archfile.fragment_remarks(archfile_fragment, base))


def console_text(data: bytes, place: Path) -> None:
    shown = data.decode(errors="replace")
    kernelreports.crash_title(shown), kernelreports.reports(shown), kernelreports.refusals(shown)
    logs.log(shown)


CONSOLES = lines(
    "[    3.1] BUG: unable to handle page fault for address: ffff\n[    3.1] Oops: 0002 [#1] SMP\n"
    "[    3.1] RIP: 0010:klp_fn+0x1/0x20 [klp]\n[    3.2] Call Trace:\n"
    "[    3.2]  klp_other+0x1/0x2\n[    3.2] Kernel panic - not syncing: Fatal exception in: x\n",
    "[    9.0] INFO: task foo:1 blocked for more than 120 seconds.\n"
    "[    9.0] illegal operation: 0001 ilc:1 [#1] SMP\n[    9.1] Krnl PSW : 1 2 (f+0x1/0x2)\n",
    "livepatch: failed to enable patch\nx: Unknown symbol y (err -2)\n"
    "WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2\n"
    "WARNING: possible circular locking detected\n",
)


# --- kernel trees, and what a guest's /proc says --------------------------------------------------

HEADER = (
    "#define R_TOY_NONE 0\n#define R_TOY_64 1\n# define R_TOY_32 0x2\n#define R_TOY_X R_TOY_32\n"
)
LOADER = (
    "static int (*handlers[])(void) = {\n\t[R_TOY_NONE] = none,\n"
    "\t[R_TOY_64 ... R_TOY_32] = all,\n};\n"
    "int apply_relocate_add(void)\n{\n\tswitch (type) { /* what */\n#ifdef CONFIG_A\n"
    "\tcase R_TOY_NONE:\n\t\tbreak;\n#endif\n\tcase R_TOY_64 ... R_TOY_32:\n"
    '\t\tpr_err("no\\n");\n\t\treturn -ENOEXEC;\n\tdefault:\n\t\treturn 0;\n\t}\n}\n'
)
KCONFIG = (
    'config A\n\tbool "a" if B\n\tdepends on (B || !C) && D = "x y"\n\tselect E if F\n'
    '\thelp\n\t  words\n\nif B\nsource "arch/$(SRCARCH)/Kconfig"\nendif\n'
)


def a_loader(data: bytes, place: Path) -> None:
    """What of a kernel's source handles relocations; header and code in one."""
    shown = data.decode(errors="replace")
    relocsource.handled({"m.c": shown}, {"elf.h": shown}, {"A": "y"})


LOADERS = lines(HEADER + LOADER)
LARGE_LOADERS = lines(
    *(
        word * (1_000_000 // len(word))
        for word in ("/*", '"', '\\"', "\n", "#", " ", "a", "case ", "{\n")
    ),
    HEADER.replace("0x2", "0xffffffff") + LOADER,
    HEADER + LOADER.replace("CONFIG_A", "defined" + " " * 500_000),
    HEADER + LOADER.replace("#ifdef CONFIG_A", "#if " + "(" * 100_000 + "CONFIG_A"),
    HEADER + LOADER.replace("pr_err(", "pr_err(" + "(" * 500_000),
    HEADER + LOADER.replace("\tcase R_TOY_NONE:\n", "\tcase R_TOY_NONE:\n" * 20_000),
)


def a_kconfig(data: bytes, place: Path) -> None:
    shown = data.decode(errors="replace")
    tree = kconfigtree.read(lambda name: shown if name.endswith("Kconfig") else None, "toy")
    kconfigtree.obstacles(tree, "A", {"B": "y"})
    kconfigtree.demands(tree, "A"), kconfigtree.origin(tree, "A", {})


LARGE_KCONFIGS = lines(
    *("config A\n\tdepends on " + "(" * 200_000 + "\n", "config A\n\tdepends on " + "!" * 200_000),
    *("if B\n" * 3_000, "\\\n" * 200_000, "config A\n" + "\thelp\n" * 100_000, "\n" * 10**6),
    *("config A\n\tdepends on $(" + "x(" * 200_000, 'config A\n\tbool "' + "x" * 10**6),
    "config A\n\tselect B\nconfig B\n\tselect A\n",
)


def meminfo(data: bytes, place: Path) -> None:
    shown = data.decode(errors="replace")
    memory.in_use(dict.fromkeys(memory.FILES, shown))


MEMINFO = lines(
    "".join(f"{name}: 1000 kB\n" for name in ("MemTotal", *memory._OTHERS))
    + "Node 0, zone DMA\n        managed  3840\n    pagesets\n              count: 12\n"
)


# Most of what the patterns look for begins or repeats something of these.
LONG_LINES = lines(
    *(
        word * (300_000 // len(word))
        for word in (
            *("a", "a ", "a/ -", "BUG: ", "WARNING: a", "0", "[ 1.1]", "[<ffffffff>] ", "not "),
            *("Kernel panic - not syncing: a", "rcu: INFO: rcu ", "livepatch: ", "f+0x1/0x"),
        )
    ),
    "BUG: x\n" * 5_000,
)


def a_selftest(data: bytes, place: Path) -> None:
    shown = data.decode(errors="replace")
    told = selftests.parse(shown, "test-livepatch.sh")
    selftests.running(shown)
    selftests.verdict(told, selftests.steps(told, shown, 0, (), 1.0))


SELFTESTS = lines(
    "TAP version 13\n1..1\n# selftests: livepatch: test-livepatch.sh\n"
    "# TEST: basic function patching ... ok\n# TEST: multiple ... not ok\n#\n# --- expected\n"
    "# +++ result\n# ERROR: livepatch kselftest(s) failed\n"
    "not ok 1 selftests: livepatch: test-livepatch.sh # exit=1\n",
    "TAP version 13\n1..1\n# TEST: x ... ok\nok 1 selftests: livepatch: test-livepatch.sh # SKIP\n",
)


def an_answer(data: bytes, place: Path) -> None:
    from orchestrator.errors import HarnessError

    shown = data.decode(errors="replace")
    agent.token(shown), agent.text(shown)
    for shape in (agent.Hello, agent.Done, agent.Raced, agent.Observed, agent.Peeked):
        try:
            agent.decode(shown, shape, "observe x")
        except HarnessError as refused:
            assert len(str(refused)) < 2000
    for number in (agent.number, lambda t, _w: agent.memory(t, 4, 0)):
        try:
            number(shown, "x")
        except HarnessError as refused:
            assert len(str(refused)) < 2000


ANSWERS = lines(
    '{"agent":2,"token":"abc","release":"6.1","cmdline":"quiet"}',
    *('{"errno":0,"usec":12}', '{"errnos":[0,1],"usec":5}', '{"data":["00ff",null]}'),
    '{"taint":4096,"modules":[["m",1,0,"Live","0x1"]],"patches":{"p":{"enabled":1,"transition":0,'
    '"objects":{"m":[1,["f,1"]]}}},"sections":{"m":{".text":"0x1"}},"files":{"/x":{"errno":0,'
    '"text":"y"}}}',
)


def a_command_file(data: bytes, place: Path) -> None:
    """What kbuild left beside an object."""
    for name in ("set", "entry"):
        (place / name).mkdir(exist_ok=True)
    (place / "set/.own.o.cmd").write_bytes(data)
    (place / "set/Kbuild").write_bytes(data)
    outside.write(place / "entry" / outside.RECORD, place / "set", (place / "set",), place, 0)
    outside.changed(place / "entry")


COMMAND = lines(
    "cmd_x.o := gcc -I./include -I /elsewhere -c -o x.o\n\nsource_x.o := own.c\n\ndeps_x.o := \\\n"
    "    $(wildcard include/config/X) \\\n  include/k.h \\\n  ../val.h \\\n\nx.o: $(deps_x.o)\n"
)


def json_reader(
    name: str, file: str, samples: Callable[[], Sequence[bytes]], use: Callable[[Path], object]
) -> Reader:
    return Reader(name, samples, JSON, document(file, use), lambda: LARGE_JSON)


def toml_reader(
    name: str, samples: Callable[[], Sequence[bytes]], read: Callable[[bytes, Path], object]
) -> Reader:
    return Reader(name, samples, TOML, read, lambda: LARGE_TOML)


def some_card(place: Path) -> Path:
    place.mkdir()
    made = ReportCard("toy", "debian:6.1", (), ("klp-e2e", "port", "toy"), 0.0, "a host")
    (place / "card.json").write_text(report_card.document(made.ended(1.0, "")))
    return place


def some_night(place: Path) -> Path:
    place.mkdir()
    night = dataclasses.replace(SOME_NIGHT, rows=SOME_NIGHT.rows[:2] + SOME_NIGHT.rows[3:])
    history_files.write(place, night)
    shown = dataclasses.replace(
        SOME_CHANGES, changed=SOME_CHANGES.changed[:2], inputs=SOME_CHANGES.inputs[:1]
    )
    history_files.write_changes(place, shown)
    return place


def some_part(place: Path) -> Path:
    place.mkdir()
    plan = tuple(record.job for record in SOME_NIGHT.jobs)
    part = nights.Part(tuple(job.name for job in plan), plan, "0" * 64)
    kernels = tuple(
        dataclasses.replace(k, config="inputs/x.config", commit="0123456789ab")
        for k in SOME_NIGHT.kernels
    )
    rows = SOME_NIGHT.rows[:2] + SOME_NIGHT.rows[3:]
    night = dataclasses.replace(SOME_NIGHT, part=part, kernels=kernels, rows=rows)
    history_files.write(place, night)
    return place


JOURNAL = lines(
    '{"arch":"one","set":"basic","order":"+klp_patch","good":true,"relocations":3}\n'
    '{"arch":"one","set":"basic","order":"+klp_target","good":false,"beyond":2,"seconds":0.5}\n'
)


def some_find(place: Path) -> Path:
    place.mkdir()
    seen = Seen("abc", False)
    work.keep(place, work.Found(("0001-a.patch",), seen, seen))
    return place


READERS = (
    Reader("elf-inspect", modules, ELF, inspected, large_modules),
    Reader("elf-convert", modules, ELF, written_anew, large_modules),
    Reader(
        "patch-table",
        lambda: declaring(("little", DECLARED), ("big", DECLARED)),
        ELF,
        compared_with_toml,
        shared_tables,
    ),
    Reader("patch", diffs, LINES, patched, long_diffs),
    Reader("mail", mailboxes, LINES, lambda data, _: mails.series(data, "x"), large_mails),
    Reader("order", lambda: ORDERS, BYTES, ordered, lambda: LONG_ORDERS),
    toml_reader("set.toml", module_set_files, a_module_set),
    toml_reader("arch.toml", own("orchestrator/arches/*.toml"), an_arch),
    toml_reader("suite.toml", own("orchestrator/suites/*.toml"), a_suite_file),
    toml_reader("nightly.toml", own("kernel-config/nightly.toml"), a_night_file),
    toml_reader("known-issues.toml", own("kernel-config/known-issues.toml"), known_issues),
    toml_reader("capabilities.toml", own("kernel-config/capabilities.toml"), capabilities),
    toml_reader("recipe.toml", own("images/guest/recipe.toml"), a_recipe),
    json_reader("results.json", "results.json", made_by(results, "results.json"), told_results),
    json_reader(
        "explore.json",
        "explore.json",
        made_by(lambda p: an_exploration(p, found=Status.FAIL, not_run=2), "explore.json"),
        told_exploration,
    ),
    Reader(
        "walk.jsonl",
        lambda: JOURNAL,
        LINES,
        document("walk.jsonl", told_journal),
        lambda: LARGE_JSON,
    ),
    json_reader(
        "trials.json", "trials.json", made_by(lambda p: an_ablation(p), "trials.json"), told_trials
    ),
    json_reader("card.json", "card.json", made_by(some_card, "card.json"), told_card),
    json_reader("night.json", "night.json", made_by(some_night, "night.json"), told_night),
    json_reader("part", "night.json", made_by(some_part, "night.json"), merged_part),
    json_reader("bundle.json", "bundle.json", a_bundle, bundle_record.load_record),
    json_reader("found.json", "found.json", made_by(some_find, "found.json"), work.kept),
    Reader("config", own("kernel-config/*.config"), LINES, options_of),
    Reader("console", lambda: CONSOLES, LINES, console_text, lambda: LONG_LINES),
    Reader("kconfig", lambda: lines(KCONFIG), LINES, a_kconfig, lambda: LARGE_KCONFIGS),
    Reader("relocation-source", lambda: LOADERS, LINES, a_loader, lambda: LARGE_LOADERS),
    Reader("meminfo", lambda: MEMINFO, LINES, meminfo),
    Reader("kselftest", lambda: SELFTESTS, LINES, a_selftest),
    Reader("agent", lambda: ANSWERS, (*JSON, *BYTES), an_answer, lambda: LARGE_JSON),
    Reader("cmd", lambda: COMMAND, LINES, a_command_file),
)

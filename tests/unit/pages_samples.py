# SPDX-License-Identifier: GPL-2.0-only
"""A place of nights with all that pages show, and with text that means harm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from samples import a_reading

from orchestrator.history.nights import (
    Blame,
    Change,
    Changed,
    Changes,
    InputChange,
    Job,
    JobKind,
    JobRecord,
    KernelInput,
    Night,
    NightTotals,
    PastResult,
    Row,
    State,
)
from orchestrator.model.orders import parse
from orchestrator.nouns import Case, Kernel
from orchestrator.pages import site
from orchestrator.report.directory import ResultsDirectory
from orchestrator.verdicts import CaseResult, Check, CheckKind, Run, Status, Step

NIGHT, BEFORE = "2026-01-31-020000", "2026-01-30-020000"
ORDER = "+klp_patch +klp_target -klp_target +filler +klp_target"
SUBJECT = "klp_patch .text+0xe R_A_GOT klp_target:klp_target_written,0"
# Tags, attributes, templates, and characters that no page can carry.
HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    "</style></title></pre><!-- {{ 7 * 7 }} {% x %} &lt; \x00\x1b[31m\u202e\u2067"
    "\u2028 ::error::x ##vso[task] `|` # not ok 1 # SKIP \u2069"
)
CONSOLE = (
    "[    1.000000] livepatch: enabling patch 'klp_patch'\n"
    + "[    1.500000] quiet\n" * 30
    + "[    2.000000] BUG: kernel NULL pointer dereference, address: 0000000000000018\n"
    + f"[    2.100000] RIP: 0010:klp_x+0x2a/0x80 {HOSTILE}\n"
)


def check(kind: CheckKind, subject: str, expected: str, seen: str) -> Check:
    return Check(kind, subject, expected, seen, expected == seen)


def step(event: str, *checks: Check) -> Step:
    answer = check(CheckKind.ANSWER, "answer", "success", "success")
    return Step(event, (answer, *checks), 0.5, 0.1, 1)


def field(raw: str, expected: str = "") -> Check:
    """Of one and the same relocation; without `expected`: good."""
    made = a_reading(
        raw,
        livepatch="klp_patch",
        object="klp_target",
        symbol="klp_target_written",
        type="R_A_GOT",
        resolves_to=0x1000,
        symbol_address=0x9000 if expected else 0x1000,
    )
    assert made.good != bool(expected)
    return made


STEPS = (
    step("+klp_patch", field("00 00 00 00")),
    step("+klp_target", field("ff ff ff 9a")),
    step("-klp_target", field("ff ff ff 9a")),
    step("+filler", field("ff ff ff 9a")),
    step(
        "+klp_target",
        field("ff ff ff 9a", "resolves to klp_target:klp_target_written,0 at 0x9000"),
        check(CheckKind.VALUE, "target", f"read=42 {HOSTILE}", f"read=100042 {HOSTILE}"),
    ),
)


@dataclass(frozen=True, slots=True)
class Place:
    """What `site.write` is given."""

    path: Path
    night: Night
    changes: Changes
    totals: Sequence[NightTotals]
    past: Mapping[tuple[str, str], Sequence[PastResult]]

    def write(self) -> Path:
        index = site.write(self.path, self.night, self.changes, self.past)
        site.write_list(self.path, self.totals)
        return index

    @property
    def pages(self) -> list[Path]:
        return sorted(self.path.rglob("*.html"))


def job(name: str, kernel: str, arch: str, what: str, state: State = State.ENDED) -> JobRecord:
    command = Job(
        name, JobKind.SUITE, kernel, "debian:6.1", (), arch, what, ("run",), 60.0, HOSTILE
    )
    ended = state is State.ENDED
    return JobRecord(
        command, state, "", 1 if ended else None, 10.0 if ended else None, 20.0 if ended else None
    )


def result(name: str, status: Status, order: str = ORDER, console: str = CONSOLE) -> CaseResult:
    failed = status is not Status.PASS
    return CaseResult(
        case=Case(name, "basic", parse(order), "to see it" if not failed else HOSTILE),
        arch="s390x",
        status=status,
        reason=f"+klp_target: {SUBJECT} {HOSTILE}" if failed else "",
        steps=STEPS if failed else STEPS[:4],
        reproduce=f"klp-e2e run --order '{order}' {HOSTILE}",
        console=console,
        dmesg=CONSOLE * failed,
        seconds=1.5,
        disassembly=f"> 0: c4 18 lgrl {HOSTILE}\n" * failed,
    )


def rows(place: Path, name: str, results: Sequence[CaseResult]) -> Iterator[Row]:
    """The results as a job's directory, and as rows."""
    kernel = Kernel(
        *("key", "s390x", "debian:6.1", "6.1.192-2", (), "6.1.192", (6, 1), "gcc"),
        *(Path("k"), Path("i"), Path("m"), Path("c"), Path("b"), Path("s")),
    )
    run = Run(("klp-e2e",), 10.0, "debian:6.1", (), len(results), kernels=(kernel,))
    with ResultsDirectory(place / "jobs" / name, run) as written:
        for each in results:
            written.add(each)
    for each in results:
        yield Row(
            job=name,
            case=f"basic/{each.case.name}",
            status=each.status,
            reason=each.reason,
            symptom=each.reason,
            seconds=each.seconds,
            order=ORDER,
            why=each.case.why,
            reproduce=each.reproduce,
            directory=f"jobs/{name}/s390x/basic.{each.case.name}",
        )


def hostile(path: Path) -> Place:
    """A night with a crash, a wrong relocation, a flaky and a skipped case, a job that did not
    build, and harm in whatever is text."""
    place = path / NIGHT
    name = 'deb#?%20 <b>&"/core'  # a directory's name, which can be much, and a part of links
    results = [result("moved", Status.FAIL), result("alone", Status.PASS, "+klp_patch")]
    found = list(rows(place, name, results))
    failed, passed = found
    (place / failed.directory / "<script>alert(3)<b> &#.txt").write_text("x")
    flaky = Row("other", f"flaky {HOSTILE}", Status.FLAKY, HOSTILE, HOSTILE, runs=3, failed=1)
    skipped = Row("other", "skipped", Status.SKIP, HOSTILE)
    jobs = (
        job(name, f"debian:6.1 {HOSTILE}", f"s390x{HOSTILE}", f"core {HOSTILE}"),
        replace(job("other", "debian:6.12", "x86_64", "core"), exit_code=3, reason=HOSTILE),
        job("third", "debian:6.12", "s390x", "core", State.SKIPPED),
    )
    kernel = KernelInput(
        *("debian:6.1", "s390x", "6.1.192-2", "6.1.192"),
        patches={f"0001-{HOSTILE}.patch": "ab" * 32},
        config="inputs/config",
        compiler=HOSTILE,
        qemu=HOSTILE,
    )
    (place / "inputs").mkdir()
    (place / "inputs" / "config").write_text("CONFIG_X=y\n")
    (path / BEFORE).mkdir()
    (path / BEFORE / "index.html").write_text(
        '<!DOCTYPE html><html lang="en"><title>x</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
    )
    night = Night(
        *(NIGHT, 1769824800.0, 1769832000.0, HOSTILE, HOSTILE, HOSTILE, 3600.0),
        jobs=jobs,
        kernels=(kernel,),
        rows=(failed, passed, flaky, skipped),
        blames=(Blame(failed.job, failed.case, f"0001-{HOSTILE}.patch", HOSTILE, ""),),
        trouble=HOSTILE,
    )
    changes = Changes(
        BEFORE,
        (
            Changed(Change.NEW_FAILURE, failed, NIGHT, 1, BEFORE),
            Changed(Change.FIXED, passed, NIGHT, 1, BEFORE, HOSTILE),
            Changed(Change.FLAKY, flaky, NIGHT, 1, BEFORE),
            Changed(Change.NEWLY_SKIPPED, skipped, NIGHT, 1, BEFORE),
            Changed(Change.GONE, Row("gone", HOSTILE, Status.PASS), NIGHT),
        ),
        (InputChange("", "", f"patch {HOSTILE}", "", HOSTILE),),
    )
    past = {
        (failed.job, failed.case): [
            PastResult(BEFORE, Status.PASS),
            PastResult("old", Status.KNOWN),
        ]
    }
    totals = [
        NightTotals(NIGHT, 1769824800.0, 7200.0, {Status.FAIL: 1, Status.PASS: 1}, 9),
        NightTotals(BEFORE, 1769738400.0, None, {Status.PASS: 2}, 8),
        NightTotals(HOSTILE, 0.0, 1.0, {}, 0),
    ]
    return Place(path, night, changes, totals, past)


def many(path: Path, cases: int, nights: int) -> Place:
    """A night of so many cases, each of which has files and a past, and so many nights. The files
    of two cases serve for all."""
    per_job = 100
    jobs = [
        job(f"debian-6.1/s390x/{n}", "debian:6.1 + livepatch-reload", "s390x", f"core {n}")
        for n in range(cases // per_job)
    ]
    failed, passed = rows(
        path / NIGHT,
        jobs[0].job.name,
        [result("wrong", Status.FAIL), result("right", Status.PASS)],
    )
    found = [
        replace(failed if number == 7 else passed, job=each.job.name, case=f"basic/case-{number}")
        for each in jobs
        for number in range(per_job)
    ]
    names = [f"2025-{number:06}" for number in range(nights)]
    past = {(row.job, row.case): [PastResult(n, Status.PASS) for n in names[:30]] for row in found}
    totals = [NightTotals(n, 0.0, 7200.0 + i, {Status.PASS: cases}, i) for i, n in enumerate(names)]
    changed = [Changed(Change.NEW_FAILURE, r, NIGHT) for r in found if r.status is Status.FAIL]
    night = Night(
        *(NIGHT, 0.0, 7200.0, "1", "host", "nightly.toml", None),
        jobs=tuple(jobs),
        rows=tuple(found),
    )
    return Place(path, night, Changes(BEFORE, tuple(changed)), totals, past)


# --- reading pages -----------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page refers to, what may be referred to in it, its elements and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_data(self, data: str) -> None:
        self.text += data

    def broken(self) -> list[str]:
        """Links that lead nowhere, fragments included."""
        return [link for link in self.links if not self._leads(link)]

    def _leads(self, link: str) -> bool:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            return link == "data:,"
        target = self.path.parent / unquote(parts.path) if parts.path else self.path
        if not parts.fragment:
            return target.exists()
        ids = self.ids if target == self.path else Page(target).ids
        return unquote(parts.fragment) in ids

# SPDX-License-Identifier: GPL-2.0-only
"""`make bench`: how fast the house is, as ratios from one run. It judges nothing.

The machine is noisy: seconds are printed to show where ratios come from, never to be asserted.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestrator import catalog
from orchestrator.build import kernel
from orchestrator.cli import options
from orchestrator.host import process, workdir
from orchestrator.host.rundir import run_dir
from orchestrator.nouns import Arch
from orchestrator.report import directory, explorejson
from orchestrator.source import series
from orchestrator.verdicts import CaseResult, Run

EXPLORED, DEPTH = "callbacks", 4
PROGRAM = [sys.executable, "-m", "orchestrator"]


def main(arguments: Sequence[str]) -> None:
    """`arguments`: further arguments for `klp-e2e run`, for instance --suite smoke."""
    arches = list(catalog.default_arches().values())
    with run_dir("bench") as scratch:
        print("building what is not built, so that everything below is from the cache", flush=True)
        klp_e2e("build")
        warm, began, wall = measured(scratch / "warm", arguments)
        _overhead(warm[0], began, wall)
        cold, _, _ = measured(scratch / "cold", [*arguments, "--cold"])
        for arch in arches:
            _lane(arch, warm[1], cold[1], warm[0])
        for arch in arches:
            _exploration(arch, scratch, cold[1])
        for arch in arches:
            _rebuild(arch, scratch / f"changed-{arch.name}")


def klp_e2e(*arguments: str | Path) -> process.Completed:
    """Run our own command; a run that found something wrong is measured all the same."""
    done = process.run([*PROGRAM, *arguments], check=False)
    if done.code not in (0, 1):
        sys.exit(f"klp-e2e {' '.join(map(str, arguments))}: {done.errors or done.output}")
    return done


def measured(
    place: Path, arguments: Sequence[str]
) -> tuple[tuple[Run, tuple[CaseResult, ...]], float, float]:
    """A run: (its results, when it began in seconds since the epoch, its wall seconds)."""
    print(f"running the suite: klp-e2e run {' '.join(arguments)}", flush=True)
    epoch, began = time.time(), time.monotonic()
    klp_e2e("run", *arguments, "-o", place)
    return directory.read(place), epoch, time.monotonic() - began


def _overhead(run: Run, began: float, wall: float) -> None:
    alive: dict[str, float] = {}
    for guest in run.guests:
        alive[guest.arch] = alive.get(guest.arch, 0.0) + guest.alive_seconds
    guests = max(alive.values())
    print(f"whole run: {wall:.1f} s wall, the slower lane's guests lived {guests:.1f} s:")
    print(f"    harness overhead {(wall - guests) / wall:.1%} (limit 10 %)")
    first = min(guest.started for guest in run.guests) - began
    print(f"    first QEMU started {first:.2f} s after the command (limit: boot + 2 s)")


def _lane(arch: Arch, warm: Iterable[CaseResult], cold: Iterable[CaseResult], run: Run) -> None:
    mine = [result for result in warm if result.arch == arch.name]
    booted = [result for result in cold if result.arch == arch.name]
    steps = [step for result in mine for step in result.steps]
    fast, slow = (sum(result.seconds for result in results) for results in (mine, booted))
    ready = min(guest.ready_seconds for guest in run.guests if guest.arch == arch.name)
    built = next(k for k in run.kernels if k.arch == arch.name)
    print(f"{arch.name} ({next(g.accel for g in run.guests if g.arch == arch.name)}):")
    print(f"    {len(mine)} orders, from snapshots {fast:.1f} s, each booted {slow:.1f} s:")
    print(f"    ratio {slow / fast:.1f} (at least 3)")
    print(f"    guest ready after {ready:.1f} s; {built.objects} objects compiled by a cold build")
    event = statistics.median(step.seconds for step in steps)
    readback = statistics.median(s.readback_seconds for s in steps if s.relocations_read)
    count = sum(step.relocations_read for step in steps)
    print(f"    median event {event * 1000:.0f} ms, median read-back {readback * 1000:.1f} ms;")
    print(f"    {count} relocations read back over {len(steps)} events")


def _exploration(arch: Arch, scratch: Path, cold: Iterable[CaseResult]) -> None:
    """One guest, then two: how many orders a minute, and what an order costs."""
    booted = statistics.mean(result.seconds for result in cold if result.arch == arch.name)
    pace = {}
    for guests in (1, 2):
        place = scratch / f"explored-{arch.name}-{guests}"
        options_ = ["--modules", EXPLORED, "--depth", str(DEPTH), "--guests", str(guests)]
        print(f"klp-e2e explore --arch {arch.name} {' '.join(options_)}", flush=True)
        klp_e2e("explore", "--arch", arch.name, *options_, "-o", place)
        document = explorejson.load_exploration(place)
        (stats,) = [campaign.stats for campaign in document.campaigns]
        walking = stats.seconds - stats.spent.get("boot", 0.0)  # of the guests together
        pace[guests] = guests * stats.verified / walking
        if guests == 1:
            one, lives = stats, document.run.guests
            took = statistics.median(line.seconds for line in explorejson.journal(place))
    print(f"{arch.name}: {one.verified} orders in {one.seconds:.1f} s of one guest:")
    often = one.per_minute
    print(f"    {often:.0f} a minute, {often * booted / 60:.0f} times as many as with a boot")
    print(f"    of {booted:.1f} s for each (at least 12 times)")
    print(f"    restore + event + verification {took * 1000:.0f} ms at the median (limit 500);")
    whole = sum(one.spent.values())
    shares = (f"{what} {took / whole:.0%}" for what, took in sorted(one.spent.items()))
    print(f"    it went into: {', '.join(shares)}; {one.saves} snapshots, {one.restores} restores")
    print(f"    two guests side by side: {pace[2] / pace[1]:.2f} times one, boots left out")
    print(f"    (at least 1.7; two busy loops side by side, right after it: {_cores():.2f})")
    memory, disk = max(life.memory for life in lives), max(life.disk for life in lives)
    print(f"    a guest took {memory / 1e6:.0f} MB of memory; after {one.saves} snapshots in turn")
    print(f"    {disk / 1e6:.0f} MB of disk are in use")


BUSY = """
import time
end, rounds = time.perf_counter() + 3, 0
while time.perf_counter() < end:
    sum(range(20000))
    rounds += 1
print(rounds)
"""


def _cores() -> float:
    """What two processes get done at once, against one: what this machine has to give just now."""

    def done(processes: int) -> float:
        busy = [sys.executable, "-c", BUSY]
        with ThreadPoolExecutor(processes) as pool:
            outputs = list(pool.map(lambda _: process.run(busy).output, range(processes)))
        return sum(map(float, outputs))

    pairs = [(done(1), done(2)) for _ in range(3)]
    return statistics.median(two / one for one, two in pairs)


def _rebuild(arch: Arch, place: Path) -> None:
    """Change one line of the first patch and build again."""
    place.mkdir()
    ours = kernel.build(arch, options.SOURCE, [options.SERIES])
    patches = series.resolve(options.SERIES, ours.version).patches
    (place / "series").write_text("".join(f"{number}.patch\n" for number in range(len(patches))))
    for number, patch in enumerate(patches):
        text = patch.text if number else one_line_changed(patch.text)
        (place / f"{number}.patch").write_text(text)
    print(f"{arch.name}: building with one line of {patches[0].name} changed", flush=True)
    changed = kernel.build(arch, options.SOURCE, [str(place)])
    record = json.loads((changed.directory / "kernel.json").read_text())
    line = f"    rebuild compiled {record['compiled']} of {record['objects']} objects"
    line += f" in {record['cpu_seconds']:.0f} CPU s"
    whole = _cold_cpu_seconds(arch)
    if whole:
        line += f", a cold build took {whole:.0f}: ratio 1/{whole / record['cpu_seconds']:.0f}"
        line += " (limit 1/8)"
    else:
        line += "; no cold build is in the cache to compare with"
    print(line)


def one_line_changed(patch: str) -> str:
    """The patch with the first comment line it adds to a C file changed; hunks stay as long.

    The patch's time stamp goes into it, so that no earlier build is found in the cache.
    """
    lines = patch.splitlines(keepends=True)
    in_c = False
    for number, line in enumerate(lines):
        if line.startswith("+++ "):
            in_c = line.rstrip().endswith(".c")
        elif in_c and line.startswith("+ * "):
            lines[number] = f"{line.rstrip()} ({time.time_ns()})\n"
            return "".join(lines)
    sys.exit("bench: the first patch adds no comment to a C file")


def _cold_cpu_seconds(arch: Arch) -> float:
    """The CPU time of the costliest kernel of this architecture in the cache that was built whole;
    ccache can have made it cheaper than it was, never dearer. 0.0: there is none."""
    records = [
        json.loads(path.read_text())
        for path in (workdir.cache_root() / "kernels").glob(f"{arch.name}-*/kernel.json")
    ]
    whole = [r["cpu_seconds"] for r in records if r["compiled"] >= 0.9 * r["objects"]]
    return max(whole, default=0.0)


if __name__ == "__main__":
    main(sys.argv[1:])

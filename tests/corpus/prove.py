# SPDX-License-Identifier: GPL-2.0-only
"""Source patches in the manner of real fixes, each built by a builder and run in every usual order.

    make corpus ARGS="7.3"                 # all of tests/corpus/7.3
    make corpus ARGS="7.3 namesake both"   # some of them
    make corpus ARGS="7.3 keep=DIR"        # what ran is kept in DIR, by a patch's name

corpus.toml says for each what it must come to: what is patched and deferred, or the words by which
the builder refuses it; of what it warns; and with what the orders fail, where the builder or the
kernel is at fault. A line for each; exit 1 where one is otherwise. Not among the tests: a kernel
is built twice for it, and its source may leave the mirrors.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KLP_E2E = Path(sys.executable).with_name("klp-e2e")
KEEP = "keep="
PATCHES, DEFERRED, WARNS = "patches ", "deferred until ", " warns: "


def main(version: str, *names: str) -> int:
    place = HERE / version
    keep = next((Path(n.removeprefix(KEEP)) for n in names if n.startswith(KEEP)), None)
    names = tuple(name for name in names if not name.startswith(KEEP))
    corpus = tomllib.loads((place / "corpus.toml").read_text())
    known = {entry["name"] for entry in corpus["patch"]}
    files = {path.stem for path in place.glob("*.patch")}
    if known != files or not set(names) <= known:
        print(f"{place}: {', '.join(sorted((known ^ files) | (set(names) - known)))}: not in both")
        return 2
    wrong = 0
    for entry in corpus["patch"]:
        if not names or entry["name"] in names:
            line, right = prove(place, corpus, entry, keep)
            print(line, flush=True)
            wrong += not right
    return int(bool(wrong))


def prove(
    place: Path, corpus: dict[str, Any], entry: dict[str, Any], keep: Path | None
) -> tuple[str, bool]:
    """A patch's line, and whether it came to what it must."""
    with tempfile.TemporaryDirectory(prefix="klp-e2e-corpus-") as scratch:
        results = (keep or Path(scratch)) / entry["name"]
        argv = [
            str(KLP_E2E),
            "livepatch",
            str(place / f"{entry['name']}.patch"),
            "-o",
            str(results),
        ]
        argv += ["--kernel", corpus["kernel"], "--builder", corpus["builder"]]
        if "series" in corpus:
            argv += ["--series", str(place / corpus["series"])]
        for config in (*corpus.get("configs", []), str(place / "kernel.config")):
            argv += ["--config", config]
        argv += entry.get("options", [])
        began = time.monotonic()
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        head = f"{entry['name']}: {corpus['builder']}, {corpus['kernel']}, {seconds:.0f} s"
        if "refused" in entry:
            right = done.returncode == 3 and entry["refused"] in done.stderr
            told = done.stderr.partition("klp-e2e: ")[2] or done.stderr
            words = " ".join(told.partition("\n    ")[0].split())  # what to do comes after it
            return f"{head}: {'refused' if right else 'WRONG'}: {words}", right
        shown = [line.strip() for line in done.stdout.splitlines() if line.startswith("  ")]
        patched = dict(
            line.removeprefix(PATCHES).split(": ", 1) for line in shown if line.startswith(PATCHES)
        )
        deferred = sorted(
            line.partition(": ")[2].partition(" (")[0] for line in shown if DEFERRED in line
        )
        warned = sorted(line.partition(WARNS)[2] for line in shown if WARNS in line)
        wanted = {target: ", ".join(each) for target, each in entry["patches"].items()}
        right = patched == wanted and deferred == sorted(entry["deferred"])
        right &= warned == sorted(entry.get("warned", []))
        if not (results / "results.json").is_file():
            told = done.stderr.partition("klp-e2e: ")[2] or done.stderr
            return f"{head}: WRONG, exit {done.returncode}: {told}", False
        cases = json.loads((results / "results.json").read_text())["cases"]
        statuses = [case["status"] for case in cases]
        if "fails" in entry:
            failed = [case["reason"] for case in cases if case["status"] == "FAIL"]
            right &= bool(failed) and all(entry["fails"] in reason for reason in failed)
        right &= done.returncode == int("fails" in entry)
        told_all = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
        what = "; ".join(f"{target}: {names}" for target, names in patched.items())
        late = ", ".join(deferred) or "nothing"
        told_all += "".join(f"; warns: {each}" for each in warned)
        reasons = dict.fromkeys(case["reason"] for case in cases if case["reason"])
        told_all += "".join(f"; {each}" for each in reasons)
        verdict = told_all if right else f"WRONG, exit {done.returncode}: {told_all}"
        return f"{head}: patches {what}; deferred {late}; {verdict}", right


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

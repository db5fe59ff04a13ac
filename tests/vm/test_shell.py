# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e shell` as a person has it: on a terminal, with keys that are pressed."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmkit import ARCHES, MARK, PATIENCE, TROUBLE, Klp

from orchestrator import catalog
from orchestrator.build.prepare import Bootable
from orchestrator.model import model, orders

ORDER = "+klp_patch +klp_target"
PROMPT = "# "
CTRL_D = "\x04"


@dataclass
class Terminal:
    """A program on a pseudo-terminal."""

    program: subprocess.Popen[bytes]
    descriptor: int
    shown: str = ""  # all that it has printed

    def press(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def until(self, text: str) -> str:
        """What is printed up to and with `text`, from here on."""
        begin = len(self.shown)
        while text not in self.shown[begin:]:
            assert self._read(), f"it ended without {text!r}: {self.shown}"
        return self.shown[begin:]

    def end(self) -> int:
        """Read until nobody has the terminal open any more; the exit code."""
        while self._read():
            pass
        return self.program.wait(PATIENCE)

    def _read(self) -> bool:
        ready, _, _ = select.select([self.descriptor], [], [], PATIENCE)
        assert ready, f"nothing more came after: {self.shown}"
        try:
            self.shown += os.read(self.descriptor, 4096).decode().replace("\r\n", "\n")
        except OSError:  # EIO: the last program on the terminal has gone
            return False
        return True


@contextlib.contextmanager
def on_terminal(klp: Klp, *argv: str, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    """`klp-e2e` in a session whose controlling terminal is ours."""
    setsid = shutil.which("setsid")
    assert setsid is not None
    ours, theirs = pty.openpty()
    environment = {**os.environ, MARK: klp.mark, "TMPDIR": str(klp.temporary), "TERM": "dumb"}
    program = subprocess.Popen(
        [setsid, "--ctty", sys.executable, "-m", "orchestrator", *argv],
        cwd=klp.directory,
        env={**environment, **(env or {})},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Terminal(program, ours)
    finally:
        os.close(ours)  # SIGHUP, where it has not ended
        program.wait(PATIENCE)


def patched_text(bootable: Bootable) -> str:
    """What the model expects the probe `target` to show after ORDER."""
    module_set = catalog.module_set("basic")
    order = orders.parse(ORDER, module_set)
    text = model.expectations(module_set, order, bootable.kernel.capabilities)[-1].probes["target"]
    assert text is not None
    return text


def test_a_person_reads_the_patched_text_and_leaves(bootable: Bootable, klp: Klp) -> None:
    with on_terminal(klp, "shell", bootable.arch.name, "--order", ORDER) as terminal:
        told = terminal.until("Ctrl-D ends the guest")
        for event in ORDER.split():
            assert f"{event}: success\n" in told
        assert "target remote" in told and "qmp-shell" in told
        terminal.until(PROMPT)
        terminal.press("cat /sys/module/klp_target/parameters/show\n")
        assert f"\n{patched_text(bootable)}\n" in terminal.until(PROMPT)
        terminal.press("grep -w _text /proc/kallsyms\n")  # where gdb will look for it
        (begin,) = re.findall(r"^\w+ (?=T _text$)", bootable.kernel.system_map.read_text(), re.M)
        assert f"\n{begin}T _text\n" in terminal.until(PROMPT)
        terminal.press(CTRL_D)
        assert terminal.end() == 0
    klp.assert_nothing_left()


def test_a_terminal_that_is_closed_ends_the_guest(bootable: Bootable, klp: Klp) -> None:
    with on_terminal(klp, "shell", bootable.arch.name) as terminal:
        terminal.until(PROMPT)
    assert terminal.program.returncode == 130
    klp.assert_nothing_left()


def test_a_guest_that_is_switched_off_ends_the_session(bootable: Bootable, klp: Klp) -> None:
    """Also where the machine has no ACPI, so that QEMU would go on for ever."""
    with on_terminal(klp, "shell", bootable.arch.name) as terminal:
        assert "modules lie in /modules/basic;" in terminal.until("Ctrl-D ends the guest")
        terminal.until(PROMPT)
        terminal.press("poweroff -f\n")
        assert terminal.end() == 0
    klp.assert_nothing_left()


def test_a_crash_in_the_session_is_kept(bootable: Bootable, klp: Klp) -> None:
    argv = ("shell", bootable.arch.name, "--modules", TROUBLE, "--order", "+trouble")
    with on_terminal(klp, *argv) as terminal:
        terminal.until(PROMPT)
        terminal.press("echo panic > /sys/module/trouble/parameters/what\n")
        assert terminal.end() == 1
    (place,) = re.findall(r"its console: (\S+shell-\S+\.log)", terminal.shown.replace("\n", ""))
    assert "Kernel panic - not syncing: trouble was asked for" in Path(place).read_text()
    klp.assert_nothing_left()


def test_what_the_kernel_says_last_is_heard(bootable: Bootable, klp: Klp) -> None:
    """Its console may come later than the end of the session."""
    with on_terminal(klp, "shell", bootable.arch.name) as terminal:
        terminal.until(PROMPT)
        terminal.press("echo 'BUG: unable to handle page fault' > /dev/kmsg; exit\n")
        assert terminal.end() == 1


def test_an_order_with_an_unknown_module_starts_nothing(klp: Klp) -> None:
    argv = ("shell", ARCHES[0], "--order", "+klp_patch +nosuch")
    with on_terminal(klp, *argv, env={"PATH": "/none"}) as terminal:
        assert terminal.end() == 2  # a program that cannot be found would make it 4
    assert "has no module 'nosuch'\n" in terminal.shown
    klp.assert_nothing_left()

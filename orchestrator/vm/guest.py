# SPDX-License-Identifier: GPL-2.0-only
"""The verbs of a running guest, over the agent's protocol (images/guest/agent.c).

Two channels carry it: a virtio-serial port, which lives through snapshots, and an SSH exec
channel, which is opened anew after each restore. Answers are parsed strictly: one that is not as
agreed is HarnessError. A guest that does not answer is GuestLost, with its last console lines.
"""

from __future__ import annotations

import contextlib
import errno as errnos
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator import kernelreports
from orchestrator.deadline import Deadline
from orchestrator.errors import GuestLost, HarnessError, OutOfTime
from orchestrator.host import lines
from orchestrator.nouns import Channel
from orchestrator.verdicts import PatchState
from orchestrator.vm import agent, marks
from orchestrator.vm.machine import Machine
from orchestrator.vm.qemu import SNAPSHOT_NODE

QUIET_SECONDS = (0.15, 0.05)  # before each try to save
WAKE_SECONDS = 1.0  # times time_scale; an answer takes milliseconds
WAKE_ROUNDS = 3
KMSG, CONSOLE = "/dev/kmsg", "/dev/console"
CONSOLE_SECONDS = 5.0  # for a mark to come out; times time_scale. It takes a millisecond.
AGENT_PROGRAM = "/bin/klp-agent"
PEEK_AT_ONCE = 2000  # ranges; keeps a request well below the agent's MAX_LINE
ANSWER_SECONDS = (
    3.0  # for the word that time is up, beyond the deadline that the guest itself keeps
)

# what QEMU reports of our own doings
OWN_EVENTS = frozenset(
    {"JOB_STATUS_CHANGE", "STOP", "RESUME", "VSERPORT_CHANGE", "NIC_RX_FILTER_CHANGED"}
)


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """A line of /proc/modules."""

    size: int
    references: int
    state: str  # Live, Loading, Unloading
    address: int


@dataclass(frozen=True, slots=True)
class Look:
    """What `observe` shows."""

    taint: int
    modules: Mapping[str, LoadedModule]
    patches: Mapping[str, PatchState]
    sections: Mapping[str, Mapping[str, int]]  # of the loaded modules asked for
    files: Mapping[str, str | None]  # None: not there; "error: ENODEV": reading it failed


class _NotWhole(HarnessError):
    """The console may lack something."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the guest's console is not whole: {why}")


# --- the guest ---------------------------------------------------------------------------------


class Guest:
    """A guest that answers. After GuestLost, OutOfTime or a garbled answer it is of no more use."""

    def __init__(self, machine: Machine, channel: Channel, deadline: Deadline) -> None:
        self.machine = machine
        self.channel = channel
        self._life = contextlib.ExitStack()
        self._lines: lines.Channel = machine.agent
        self._tags: dict[str, str] = {}
        self._event_mark = 0
        self._since = time.monotonic()  # the beginning of this life
        self._told_to: int | None = None  # where the console's text that `printed` gave ended
        self._open(deadline)
        hello = self._hello(deadline)
        self.release = hello.release
        self.cmdline = hello.cmdline

    # --- verbs ---------------------------------------------------------------------------------

    def change(self, request: Sequence[str], deadline: Deadline) -> int:
        """A request that changes something; its errno. One of

        - load PATH [PARAMETERS]: one finit_module() of a file in the guest
        - unload NAME: one delete_module(), never waiting
        - write PATH VALUE: open a file and write in one call, the errno of either
        """
        return self._ask(deadline, agent.Done, *request).errno

    def race(self, requests: Sequence[Sequence[str]], deadline: Deadline) -> tuple[int, ...]:
        """Such requests at the same time, each on a CPU of its own as far as there are CPUs."""
        words = [word for request in requests for word in (str(len(request)), *request)]
        errnos = self._ask(deadline, agent.Raced, "race", *words).errnos
        if len(errnos) != len(requests):
            raise HarnessError(f"`race` of {len(requests)} requests gave {len(errnos)} answers")
        return tuple(errnos)

    def settle(self, seconds: float, deadline: Deadline) -> None:
        """Wait until livepatch is quiet, `seconds` by the guest's clock, which on a busy host goes
        slower than ours. Raises OutOfTime when it still is not; the guest stays usable."""
        milliseconds = int(min(seconds, deadline.check("livepatch to settle")) * 1000)
        done = self._ask(_and_answer(deadline), agent.Done, "settle", str(milliseconds))
        if done.errno == errnos.ETIMEDOUT:
            raise OutOfTime(
                f"a livepatch transition has not ended after {done.usec / 1e6:.1f} s in the guest"
            )

    def observe(self, modules: Sequence[str], files: Sequence[str], deadline: Deadline) -> Look:
        """All loaded modules and patches, sections of those `modules` that are loaded, `files`."""
        seen = self._ask(deadline, agent.Observed, "observe", ",".join(modules) or "-", *files)
        return Look(
            taint=seen.taint,
            modules={
                name: LoadedModule(size, references, state, agent.number(address, name))
                for name, size, references, state, address in seen.modules
            },
            patches={
                name: PatchState(
                    enabled=bool(patch.enabled),
                    transition=bool(patch.transition),
                    objects={o: bool(patched) for o, (patched, _) in patch.objects.items()},
                    functions={o: tuple(sorted(f)) for o, (_, f) in patch.objects.items()},
                )
                for name, patch in seen.patches.items()
            },
            sections={
                name: {s: agent.number(a, f"{name} {s}") for s, a in sections.items()}
                for name, sections in seen.sections.items()
            },
            files={path: _shown(file) for path, file in seen.files.items()},
        )

    def read_memory(
        self, ranges: Sequence[tuple[int, int]], deadline: Deadline
    ) -> list[bytes | None]:
        """Kernel memory at (address, length); None where /proc/kcore maps nothing."""
        out: list[bytes | None] = []
        for start in range(0, len(ranges), PEEK_AT_ONCE):
            part = ranges[start : start + PEEK_AT_ONCE]
            words = [f"{address:#x}:{length}" for address, length in part]
            data = self._ask(deadline, agent.Peeked, "peek", *words).data
            if len(data) != len(part):
                raise HarnessError(f"`peek` of {len(part)} ranges gave {len(data)} answers")
            for (address, length), shown in zip(part, data, strict=True):
                out.append(None if shown is None else agent.memory(shown, length, address))
        return out

    def symbol(self, names: Sequence[str], deadline: Deadline) -> dict[str, int]:
        """Addresses of the kernel's own symbols; a name it does not know is missing."""
        found = self._ask(deadline, agent.Symbols, "symbol", *names).symbols
        return {name: agent.number(address, name) for name, address in found.items()}

    def run_command(self, command: str, deadline: Deadline) -> str:
        """A shell command's output. Raises HarnessError when it fails, OutOfTime."""
        milliseconds = int(deadline.check(f"{command!r} in the guest") * 1000)
        ran = self._ask(_and_answer(deadline), agent.Ran, "run", str(milliseconds), command)
        if ran.expired:
            raise OutOfTime(f"{command!r} has not ended in the guest after {milliseconds} ms")
        output = agent.text(ran.output)
        if ran.status != 0:
            raise HarnessError(f"{command!r} ended with status {ran.status} in the guest: {output}")
        return output

    # --- snapshots -----------------------------------------------------------------------------

    def save(self, name: str, deadline: Deadline) -> None:
        """Keep the guest's whole state under `name`, and prove that one can go back to it.

        Seen with QEMU 7.2: about one in fifteen s390 guests that were saved while they were busy
        slept for ever after the restore, as if an interrupt on its way to the CPU had not been
        saved; why was not found out. So: save while the guest is quiet, more than once, and keep
        the first state in which both devices and timers work.
        """
        tags = [f"{name}.{number}" for number in range(len(QUIET_SECONDS))]
        with self._reconnected(deadline):
            for tag, quiet in zip(tags, QUIET_SECONDS, strict=True):
                time.sleep(quiet)
                self._monitored("snapshot_save", tag, deadline)
            for tag in tags:
                self._monitored("snapshot_load", tag, deadline)
                if self._wakes(deadline.sooner(WAKE_SECONDS * self.machine.arch.time_scale)):
                    break
            else:
                raise self.machine.lost(f"it does not wake up from its own snapshot {name}")
            self._tags[name] = tag
            self._monitored("snapshot_load", tag, deadline)
        self._hello(deadline)

    def save_unproven(self, name: str, deadline: Deadline) -> None:
        """Keep the state under `name` and go on. Cheaper than `save`, for who can bear that one
        restore of some finds no guest that answers. What was kept under that name is dropped."""
        with self._reconnected(deadline):
            if name in self._tags:
                self._monitored("snapshot_delete", self._tags.pop(name), deadline)
            time.sleep(QUIET_SECONDS[-1])
            self._monitored("snapshot_save", name, deadline)
            self._tags[name] = name

    def restore(self, name: str, deadline: Deadline) -> None:
        """Go back to what was saved under `name`, and hear the guest answer from there."""
        self.machine.console.forget()
        self._told_to, self._since = None, time.monotonic()
        with self._reconnected(deadline):
            self._monitored("snapshot_load", self._tags[name], deadline)
        self._hello(deadline)
        self._event_mark = len(self.machine.qmp.events())

    def _monitored(self, act: str, tag: str, deadline: Deadline) -> None:
        try:
            getattr(self.machine.qmp, act)(tag, SNAPSHOT_NODE, deadline)
        except (GuestLost, OutOfTime) as err:
            raise self.machine.lost(str(err)) from err

    def _wakes(self, deadline: Deadline) -> bool:
        """Whether the agent answers on its port, more than once, and comes back from sleeping."""
        port = self.machine.agent
        try:
            for _ in range(WAKE_ROUNDS):
                port.send(agent.encode("settle", "1"), deadline)
                port.receive(deadline)
        except OutOfTime:
            return False
        except GuestLost as err:
            raise self.machine.lost(str(err)) from err
        return True

    # --- what was said meanwhile ---------------------------------------------------------------

    def console_mark(self) -> int:
        return self.machine.console.mark()

    def console_untold(self) -> int:
        """Where what `printed` has not given yet begins: what comes between two events is looked at
        with the second. Now, where nothing was asked for since the boot or the last restore."""
        return self.console_mark() if self._told_to is None else self._told_to

    def console_since(self, mark: int) -> str:
        """What has come so far of what was printed since `mark`."""
        return self.machine.console.since(mark)

    def printed(self, mark: int, deadline: Deadline) -> str:
        """All that was printed since `mark`: nothing of it is on its way, and nothing was lost.

        Raises HarnessError when that cannot be proved, but for a text in which the kernel complains
        already: that needs no proof.
        """
        missing: _NotWhole | None = None
        try:
            self.mark(deadline)
        except _NotWhole as err:
            missing = err
        self._told_to = self.console_mark()  # before reading: rather twice than never
        text = self.console_since(mark)
        if missing is None and (lost := kernelreports.dropped(text)):
            missing = _NotWhole(f"the kernel has dropped {lost} messages")
        if missing is not None and not kernelreports.reports(text):
            raise missing
        return text

    def mark(self, deadline: Deadline) -> str:
        """Write a token into the kernel's log and see it come out of the console. The kernel prints
        its log in order: whatever was logged before is on the console then (/dev/console itself
        keeps no order with the log). Returns the token, for `marks.logged_since`."""
        token = secrets.token_hex(8)
        until = deadline.sooner(CONSOLE_SECONDS * self.machine.arch.time_scale)
        words, begin = f"{marks.MARK}{token}", self.console_mark()
        # level 0: it comes out whatever the console's loglevel; without an end of line it would be
        # kept for what is printed next
        if errno := self.change(("write", KMSG, f"<0>{words}\n"), deadline):
            raise _NotWhole(f"{KMSG} cannot be written: {errnos.errorcode.get(errno, errno)}")
        # s390x's console waits 50 ms for more to print (drivers/s390/char/sclp_vt220.c), unless a
        # terminal's write pushes it; carriage returns are dropped from what is read
        self.change(("write", CONSOLE, "\r"), deadline)
        if not self.machine.console.wait_for(words.encode(), begin, until):
            self.machine.alive()
            raise _NotWhole("what was written into the kernel's log does not come out of it")
        return token

    def qmp_events(self) -> tuple[str, ...]:
        """QEMU's events since the boot or the last restore, without our own doings': the name, and
        the reason where it has one ("SHUTDOWN guest-reset")."""
        events = self.machine.qmp.events()[self._event_mark :]
        return tuple(
            " ".join(str(word) for word in (event.name, event.data.get("reason", "")) if word)
            for event in events
            if event.name not in OWN_EVENTS
        )

    def stood_still(self) -> str:
        """What to say of it when the guest was let stand still in this life, else "". What is
        wrong then is not the kernel's for sure (see `pulse`)."""
        seconds = self.machine.pulse.stood_still(self._since)
        return f"the guest was let stand still for {seconds:.0f} s" if seconds else ""

    def close(self) -> None:
        """Leave the channel; the machine goes on."""
        self._life.close()

    # --- the channel ---------------------------------------------------------------------------

    def _open(self, deadline: Deadline) -> None:
        if self.channel is Channel.SSH:
            try:
                connection = self._life.enter_context(self.machine.open_ssh(deadline))
                self._lines = connection.lines(AGENT_PROGRAM, deadline)
            except (GuestLost, OutOfTime) as err:
                raise self.machine.lost(f"no agent over SSH: {err}") from err
            self._life.callback(self._lines.close)

    @contextlib.contextmanager
    def _reconnected(self, deadline: Deadline) -> Iterator[None]:
        """An SSH connection does not outlive a restore, nor is it saved into a snapshot."""
        self._life.close()
        yield
        self._open(deadline)

    def _hello(self, deadline: Deadline) -> agent.Hello:
        """Shake hands. Answers that were on their way before are read and dropped: the token tells
        ours from theirs."""
        token = secrets.token_hex(8)  # none that a guest could have said before
        hello = self._exchange(("hello", token), deadline, agent.Hello, token)
        if hello.agent != agent.VERSION:
            raise HarnessError(
                f"the agent speaks version {hello.agent} of its protocol, not {agent.VERSION}"
            )
        return hello

    def _ask(self, deadline: Deadline, shape: type[agent.A], *words: str) -> agent.A:
        return self._exchange(words, deadline, shape)

    def _exchange(
        self, words: Sequence[str], deadline: Deadline, shape: type[agent.A], token: str = ""
    ) -> agent.A:
        request = agent.encode(*words)
        verb = " ".join(words)[:80]
        try:
            self._lines.send(request, deadline)
            line = self._lines.receive(deadline)
            while token and agent.token(line) != token:
                line = self._lines.receive(deadline)
        except OutOfTime as err:
            raise self.machine.lost(f"no answer to `{verb}` in time") from err
        except GuestLost as err:
            raise self.machine.lost(f"during `{verb}`: {err}") from err
        return agent.decode(line, shape, request)


def _and_answer(deadline: Deadline) -> Deadline:
    return Deadline(deadline.at + ANSWER_SECONDS)


def _shown(file: agent.File) -> str | None:
    if file.errno == errnos.ENOENT:
        return None
    if file.errno:
        return f"error: {errnos.errorcode.get(file.errno, file.errno)}"
    return agent.text(file.text)

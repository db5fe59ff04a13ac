# SPDX-License-Identifier: GPL-2.0-only
"""Cache entries appear whole or not at all, and show it when they were damaged."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from orchestrator.errors import HarnessError, UsageError
from orchestrator.host import inuse, ours, pruning, workdir
from orchestrator.source import worktree
from orchestrator.source.sources import SourceTree


def publish(final: Path, **files: str) -> None:
    with workdir.locked(final), workdir.staging(final) as tmp:
        for name, text in files.items():
            path = tmp / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        workdir.publish(tmp, final)


def test_a_published_entry_is_whole_and_verifies(tmp_path: Path) -> None:
    publish(tmp_path / "k" / "e", a="1", sub__b="2")
    assert workdir.verify(tmp_path / "k" / "e") == ""
    assert not list((tmp_path / "k").glob(".tmp-*"))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda e: (e / "a").write_text("2"), "a is damaged"),
        (lambda e: (e / "a").unlink(), "a is missing"),
        (lambda e: (e / "x").write_text(""), "x does not belong there"),
        (lambda e: (e / workdir.DIGESTS).unlink(), "digests.json is missing"),
        (lambda e: (e / workdir.DIGESTS).write_text("{"), "digests.json is damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: object, told: str) -> None:
    entry = tmp_path / "e"
    publish(entry, a="1", sub__b="2")
    assert callable(damage)
    damage(entry)
    assert workdir.verify(entry) == told
    publish(entry, a="1")
    assert workdir.verify(entry) == ""


def test_trusted_files_are_not_read_while_size_and_time_stand(tmp_path: Path) -> None:
    entry = tmp_path / "e"
    publish(entry, a="1", sub__b="2")
    times = ((entry / "sub/b").stat().st_atime_ns, (entry / "sub/b").stat().st_mtime_ns)
    (entry / "sub/b").write_text("3")
    assert workdir.verify(entry, trusting="sub/") == "sub/b is damaged"
    os.utime(entry / "sub/b", ns=times)
    assert workdir.verify(entry, trusting="sub/") == ""
    assert workdir.verify(entry) == "sub/b is damaged"


def test_a_failed_or_killed_fill_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    final = tmp_path / "e"
    with pytest.raises(RuntimeError), workdir.staging(final) as tmp:
        (tmp / "half").write_text("")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    killed, longer, stranger = (tmp_path / f".tmp-{name}" for name in NAMES)
    for leftover in (killed, longer, stranger):
        leftover.mkdir()
        (leftover / "half").write_text("")
    for leftover in (killed, longer):
        ours.mark(leftover, ours.MarkKind.ENTRY)
    publish(final, a="1")
    assert {p.name for p in tmp_path.iterdir()} == {"e", "e.lock", longer.name, stranger.name}


# of an entry `e`, of an entry `e.1` that somebody may be filling now, and of nobody
NAMES = ("e.abcd_123", "e.1.abcd_123", "e.00000000")


def test_a_second_run_waits_says_so_and_finds_the_entry(tmp_path: Path) -> None:
    final = tmp_path / "e"
    said: list[str] = []
    found: list[str] = []

    def second() -> None:
        with workdir.locked(final, said.append):
            found.append(workdir.verify(final))

    with workdir.locked(final):
        thread = threading.Thread(target=second)
        thread.start()
        while not said:
            time.sleep(0.01)
        with workdir.staging(final) as tmp:
            workdir.publish(tmp, final)
    thread.join()
    assert said == ["another run is busy with e; waiting for it"] and found == [""]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a cache of ours; this process does not use it."""
    monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / "cache"))
    return workdir.cache_root(using=False)


def test_prune_takes_the_old_and_the_dead_and_leaves_the_rest(cache: Path) -> None:
    kernels = cache / "kernels"
    for name in ("old", "busy", "new"):
        publish(kernels / name, a="1")
        os.utime(kernels / name, (0, 0) if name != "new" else None)
    for name in (".tmp-x.abcd_123", ".tmp-y.abcd_123"):
        (kernels / name).mkdir()
        ours.mark(kernels / name, ours.MarkKind.ENTRY)
    with workdir.locked(kernels / "busy"), workdir.locked(kernels / "y"):
        gone = pruning.prune(cache, older_than_days=1)
    assert [entry.name for entry in gone] == [".tmp-x.abcd_123", "old"]
    left = {entry.name for entry in pruning.entries(cache)}
    assert left == {"busy", "new", ".tmp-y.abcd_123"}


def test_a_cache_that_a_link_leads_to_is_pruned_as_any(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(cache / "kernels" / "old", a="1")
    os.utime(cache / "kernels" / "old", (0, 0))
    link = cache.with_name("link")
    link.symlink_to(cache)
    monkeypatch.setenv("KLP_E2E_CACHE", str(link))
    gone = pruning.prune(workdir.cache_root(using=False), older_than_days=1)
    assert [entry.name for entry in gone] == ["old"] and not (cache / "kernels" / "old").exists()


def test_two_prunes_at_a_time_take_it_all_between_them(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        publish(cache / "kernels" / name, a="1")
        os.utime(cache / "kernels" / name, (0, 0))
    seen = pruning.entries(cache)
    assert len(pruning.prune(cache, older_than_days=1)) == 2
    monkeypatch.setattr(pruning, "entries", lambda root, touched: seen)
    assert pruning.prune(cache, older_than_days=1) == ()
    monkeypatch.undo()
    there = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: (*there(self), self / "gone"))
    assert [entry.name for entry in pruning.entries(cache)] == []


@pytest.mark.parametrize("put", [lambda p: p.symlink_to("nowhere"), lambda p: p.mkdir()])
def test_what_stands_where_a_lock_is_to_be_has_a_hint(
    put: Callable[[Path], None], tmp_path: Path
) -> None:
    put(tmp_path / "x.lock")
    with pytest.raises(HarnessError) as caught, workdir.locked(tmp_path / "x"):
        pass
    assert "move it away" in caught.value.hint


@pytest.mark.parametrize(
    ("place", "own"),
    [
        ("trees/x", "requested.config"),
        ("clones/x", "tree"),
        ("git/x", "FETCH_HEAD"),
        ("debian", "sources.list"),
        ("ccache", "a"),
        ("logs", "modules-basic.log"),
    ],
)
def test_prune_leaves_what_is_filled_where_it_lies_with_somebody_s_files(
    cache: Path, place: str, own: str
) -> None:
    entry = cache / place
    entry.mkdir(parents=True)
    ours.mark(entry, ours.MarkKind.ENTRY)
    (entry / own).touch()
    (entry / "mine.txt").write_text("a day's work")
    os.utime(entry, (0, 0))
    assert pruning.prune(cache, older_than_days=0) == ()
    (entry / "mine.txt").unlink()
    os.utime(entry, (0, 0))
    assert pruning.prune(cache, 0, touched=lambda path: path == entry) == ()
    assert [gone.path for gone in pruning.prune(cache, older_than_days=0)] == [entry]


def test_prune_leaves_what_others_have_put_there(cache: Path) -> None:
    publish(cache / "kernels" / "with-notes", a="1")
    notes = cache / "kernels" / "with-notes" / "notes.txt"
    linked, victim = cache / "kernels" / "linked", cache.parent / "victim"
    foreign = cache / "kernels" / "klp-mine"
    for directory in (victim, foreign, cache / "my-notes" / "old"):
        directory.mkdir(parents=True)
        (directory / "thesis").write_text("x")
    ours.mark(victim, ours.MarkKind.ENTRY)
    linked.symlink_to(victim)
    notes.write_text("x")
    (cache / "logs").symlink_to(victim)
    for path in (notes.parent, foreign, victim, cache / "my-notes", cache / "my-notes" / "old"):
        os.utime(path, (0, 0))
    assert pruning.prune(cache, older_than_days=0) == ()
    assert notes.exists() and (foreign / "thesis").exists() and (victim / "thesis").exists()
    assert not any(entry.ours for entry in pruning.entries(cache))


@pytest.mark.parametrize("what", ["written", "same size", "moved over"])
def test_prune_leaves_an_entry_whose_files_somebody_has_changed(cache: Path, what: str) -> None:
    entry = cache / "kernels" / "e"
    publish(entry, config="CONFIG_A=y", sub__x="1")
    match what:
        case "written":
            (entry / "config").write_text("CONFIG_A=y, and a day's work")
        case "same size":
            (entry / "config").write_text("CONFIG_B=y")
        case "moved over":
            (entry / "new").symlink_to("nowhere")
            (entry / "new").replace(entry / "sub/x")
    os.utime(entry, (0, 0))
    assert pruning.prune(cache, older_than_days=0) == ()
    with workdir.locked(entry):
        workdir.discard(entry)
    assert [path.is_dir() for path in entry.parent.glob("e.damaged-*")] == [True]


@pytest.mark.parametrize("digests", ["", "{", "[]", None])
def test_where_digests_do_not_tell_nothing_is_taken(cache: Path, digests: str | None) -> None:
    """What was published can then not be told from what somebody has put there."""
    entry = cache / "kernels" / "e"
    publish(entry, a="1")
    (entry / "note").write_text("a day's work")
    (entry / workdir.DIGESTS).unlink()
    if digests is not None:
        (entry / workdir.DIGESTS).write_text(digests)
    os.utime(entry, (0, 0))
    assert pruning.prune(cache, older_than_days=0) == ()
    publish(entry, a="2")
    (other,) = entry.parent.glob("e.damaged-*")
    assert (other / "note").read_text() == "a day's work"


def kernel_source(cache: Path) -> SourceTree:
    return SourceTree("dir:x", "6.1", cache.parent / "origin", "d", (6, 1), "x")


def kernel_tree(cache: Path) -> Path:
    """A kernel's tree in the cache as it is after a build."""
    origin = cache.parent / "origin"
    (origin / "sub").mkdir(parents=True)
    (origin / "Makefile").write_text("all:\n")
    (origin / "sub/main.c").write_text("int x;\n")
    os.utime(origin / "sub/main.c", (1, 1))
    entry = cache / "trees" / "x"
    entry.mkdir(parents=True)
    ours.mark(entry, ours.MarkKind.ENTRY)
    worktree.sync(kernel_source(cache), {}, entry / "src")
    (entry / "build").mkdir()
    time.sleep(0.02)
    (entry / "src/.tmp_make").touch()
    (entry / "src/.tmp_make").unlink()
    return entry


@pytest.mark.parametrize("aside", [False, True])
@pytest.mark.parametrize("what", ["nothing", "written", "added", "added at the top", "an old file"])
def test_prune_leaves_a_kernel_s_tree_in_which_somebody_has_worked(
    cache: Path, what: str, aside: bool
) -> None:
    entry = kernel_tree(cache)
    match what:
        case "written":
            (entry / "src/sub/main.c").write_text("a day's work")
        case "added":
            (entry / "src/sub/mine.c").write_text("a day's work")
        case "added at the top":
            (entry / "src/mine.c").write_text("a day's work")
        case "an old file":
            (entry / "src/sub/mine.c").write_text("a day's work")
            os.utime(entry / "src/sub/mine.c", (1, 1))
    if aside:  # by the next build
        entry = ours.put_aside(entry, "worked-in")
    os.utime(entry, (0, 0))
    gone = [each.path for each in pruning.prune(cache, older_than_days=0)]
    assert gone == ([entry] if what == "nothing" else [])


def test_a_tree_that_was_half_removed_goes_another_time(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = kernel_tree(cache)
    os.utime(entry, (0, 0))

    def killed(path: Path, within: Path) -> NoReturn:
        next(path.rglob("main.c")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ours, "remove", killed)
        pruning.prune(cache, older_than_days=0)
    assert len(pruning.prune(cache, older_than_days=9, touched=lambda _: True)) == 1
    assert [path.name for path in entry.parent.iterdir() if path.is_dir()] == []


def test_prune_looks_again_before_it_removes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(cache / "kernels" / "e", a="1")
    os.utime(cache / "kernels" / "e", (0, 0))

    def meanwhile(path: Path) -> int:
        (path / "notes").write_text("x")
        os.utime(path, (0, 0))
        return 1

    monkeypatch.setattr(pruning, "size", meanwhile)  # which takes minutes
    assert pruning.prune(cache, older_than_days=0) == ()


def test_a_damaged_entry_with_notes_in_it_is_put_aside(tmp_path: Path) -> None:
    final = tmp_path / "e"
    publish(final, a="1")
    (final / "notes.txt").write_text("x")
    publish(final, a="2")
    assert (final / "a").read_text() == "2"
    (aside,) = tmp_path.glob("e.damaged-*")
    assert (aside / "notes.txt").read_text() == "x"


def test_what_stands_in_the_way_of_an_entry_stays(tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "thesis").write_text("x")
    with pytest.raises(ours.NotOurs, match="in the way"):
        publish(tmp_path / "e", a="1")
    assert {p.name for p in tmp_path.iterdir()} == {"e", "e.lock"}
    assert (tmp_path / "e" / "thesis").read_text() == "x"


USER = """
import sys
from pathlib import Path
from orchestrator.host import workdir
root = workdir.cache_root()
workdir.touch(root / "kernels" / "used")
print("using", flush=True)
sys.stdin.read()
"""


def test_what_a_living_process_has_touched_is_in_use(cache: Path) -> None:
    for name in ("used", "unused"):
        publish(cache / "kernels" / name, a="1")
        os.utime(cache / "kernels" / name, (0, 0))
    with subprocess.Popen(
        [sys.executable, "-c", USER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == "using\n"
        gone = pruning.prune(cache, older_than_days=0)
        other.kill()
    assert [entry.name for entry in gone] == ["unused"]
    assert len(list((cache / inuse.PLACE).glob("user.*"))) == 1
    assert [entry.name for entry in pruning.prune(cache, older_than_days=0)] == ["used"]
    assert not list((cache / inuse.PLACE).glob("user.*"))


def test_a_full_directory_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels").mkdir()
    (tmp_path / "thesis").write_text("x")
    for variable, asked in (
        ("KLP_E2E_CACHE", workdir.cache_root),
        ("KLP_E2E_STATE", workdir.state_dir),
    ):
        monkeypatch.setenv(variable, str(tmp_path))
        with pytest.raises(ours.NotOurs, match="not made by klp-e2e") as caught:
            asked()
        assert variable in caught.value.hint
    assert {p.name for p in tmp_path.iterdir()} == {"kernels", "thesis"}


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_uid: int) -> NoReturn:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "KLP_E2E_CACHE", "KLP_E2E_STATE"):
        monkeypatch.delenv(name, raising=False)
    for asked, variable in (
        (workdir.cache_root, "KLP_E2E_CACHE"),
        (workdir.state_dir, "KLP_E2E_STATE"),
    ):
        with pytest.raises(HarnessError, match="no home directory") as caught:
            asked()
        assert variable in caught.value.hint


def test_a_cache_whose_path_make_cannot_be_told_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KLP_E2E_CACHE", f"{tmp_path}/n\udcff")
    with pytest.raises(UsageError, match="not UTF-8"):
        workdir.cache_root()
    assert not [*tmp_path.iterdir()]


def test_a_cache_that_others_may_write_to_is_refused(cache: Path) -> None:
    assert cache.stat().st_mode & 0o777 == 0o700
    cache.chmod(0o777)
    with pytest.raises(ours.NotOurs, match="others may write"):
        workdir.cache_root()


def test_a_cache_from_before_there_were_marks_is_taken_over_where_it_always_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KLP_E2E_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "klp-e2e"
    publish(root / "kernels" / "old", a="1")
    (root / "kernels" / "old" / ours.MARK).unlink()
    (root / "trees" / "tree" / "src").mkdir(parents=True)
    (root / "logs").mkdir()
    with_thesis = root / "thesis"
    with_thesis.mkdir()
    with pytest.raises(ours.NotOurs):
        workdir.cache_root(using=False)
    with_thesis.rmdir()
    for kind in ("sources", "trees", "git"):
        thesis = root / kind / "my-notes" / "thesis"
        thesis.parent.mkdir(parents=True, exist_ok=True)
        thesis.touch()
        with pytest.raises(ours.NotOurs):
            workdir.cache_root(using=False)
        assert not list(root.rglob(ours.MARK))
        thesis.unlink()
        thesis.parent.rmdir()
    assert workdir.cache_root(using=False) == root
    assert {entry.name: entry.ours for entry in pruning.entries(root)} == {
        "old": True,
        "tree": True,
        "logs": True,
    }


@pytest.mark.parametrize(
    ("number", "words"),
    [
        *((errno.ENOSPC, "cache prune"), (errno.EACCES, "KLP_E2E_CACHE")),
        *((errno.EROFS, "read-only"), (errno.ENOENT, "run again")),
        *((errno.EIO, "the disk fails"), (errno.EFBIG, "ulimit -f")),
    ],
)
def test_a_full_or_forbidden_disk_or_a_file_that_has_gone_has_a_hint(
    number: int, words: str
) -> None:
    with pytest.raises(HarnessError) as caught, workdir.disk_errors("x cannot be built"):
        raise OSError(number, os.strerror(number), "/some/file")
    assert "x cannot be built" in str(caught.value) and words in caught.value.hint


def test_a_cache_that_is_no_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / place))
        with pytest.raises(ours.NotOurs, match="not a directory"):
            workdir.cache_root()


def test_too_little_space_stops_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"building needs 1e\+09 GiB") as caught:
        workdir.require_space(tmp_path, 1e9, "building")
    assert "cache prune" in caught.value.hint

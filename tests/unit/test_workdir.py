# SPDX-License-Identifier: GPL-2.0-only
"""Cache entries appear whole or not at all, and show it when they were damaged."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from orchestrator.errors import HarnessError
from orchestrator.host import workdir


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
    (tmp_path / ".tmp-e.99999999").mkdir()
    publish(final, a="1")
    assert {p.name for p in tmp_path.iterdir()} == {"e", "e.lock"}


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


def test_prune_takes_the_old_and_the_dead_and_leaves_the_rest(tmp_path: Path) -> None:
    for name in ("old", "busy", "new"):
        publish(tmp_path / "kernels" / name, a="1")
        os.utime(tmp_path / "kernels" / name, (0, 0) if name != "new" else None)
    (tmp_path / "kernels" / ".tmp-x.99999999").mkdir()
    (tmp_path / "kernels" / f".tmp-y.{os.getpid()}").mkdir()
    with workdir.locked(tmp_path / "kernels" / "busy"):
        gone = workdir.prune(tmp_path, older_than_days=1)
    assert [entry.name for entry in gone] == [".tmp-x.99999999", "old"]
    left = {entry.name for entry in workdir.entries(tmp_path)}
    assert left == {"busy", "new", f".tmp-y.{os.getpid()}"}


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "cache prune"), (errno.EACCES, "KLP_E2E_CACHE"), (errno.EROFS, "read-only")],
)
def test_a_full_or_forbidden_disk_has_a_hint(number: int, words: str) -> None:
    with pytest.raises(HarnessError) as caught, workdir.disk_errors("x cannot be built"):
        raise OSError(number, os.strerror(number), "/some/file")
    assert "x cannot be built" in str(caught.value) and words in caught.value.hint


def test_a_cache_that_is_no_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        monkeypatch.setenv("KLP_E2E_CACHE", str(tmp_path / place))
        with pytest.raises(HarnessError, match="not a directory"):
            workdir.cache_root()


def test_too_little_space_stops_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"building needs 1e\+09 GiB") as caught:
        workdir.require_space(tmp_path, 1e9, "building")
    assert "cache prune" in caught.value.hint


def test_a_run_directory_is_private_short_and_goes(tmp_path: Path) -> None:
    with workdir.run_dir("guest") as path:
        assert path.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(path / ("s" * workdir.SOCKET_NAME_ROOM))) < workdir.SUN_PATH
        (path / "sub").mkdir()
        with workdir.run_dir("guest") as other:
            assert other != path and path.exists()
    assert not path.exists()

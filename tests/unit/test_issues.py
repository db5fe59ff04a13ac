# SPDX-License-Identifier: GPL-2.0-only
"""Lists of known issues: what is wrong in one is told with file, issue and key; the user's own
beside ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from samples import klp

from orchestrator import catalog
from orchestrator.cli import options
from orchestrator.errors import UsageError
from orchestrator.model import issuecheck
from orchestrator.model.known import Fails, KnownIssue
from orchestrator.verdicts import CheckKind

MINE = """\
[[issue]]
id = "mine"
title = "a title"
reference = "mail"
kernels = ">=6.1,<6.3"
architectures = ["s390x"]
kind = "health"
reports = ["BUG"]
lacks = "clears-on-unload"
surely = ["basic/reload-moved"]
without_series = ["livepatch-reload"]

[[issue.fails]]
modules = "basic"
event = "+klp_target#2"
cases = ["reload-moved"]
orders = ["+klp_patch +klp_target -klp_target +klp_target"]
"""


def load(*files: Path) -> tuple[KnownIssue, ...]:
    return options.known_issues(options.issue_files(files), ())


def written(place: Path, text: str = MINE) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def test_ones_own_are_added_to_ours(tmp_path: Path) -> None:
    ours = load()
    one = written(tmp_path / "one.toml")
    other = written(tmp_path / "two.toml", MINE.replace('"mine"', '"other"'))
    assert [issue.id for issue in load(one, other)] == [*(i.id for i in ours), "mine", "other"]
    assert load(one, one) == load(one)
    assert load(written(tmp_path / "none.toml", "")) == ours


@pytest.mark.parametrize(
    ("old", "new", "wrong", "hint"),
    [
        ('["s390x"]', '["s390"]', "architectures: unknown architecture: s390", "mean s390x?"),
        ('["s390x"]', "[]", "architectures: names none", ""),
        ("clears-on-unload", "clear-on-unload", "lacks: unknown capability", "clears-on-unload?"),
        ('["livepatch-reload"]', '["livepatch-relod"]', "without_series: unknown", "-reload?"),
        ('"basic/reload-moved"', '"basic/reload-movd"', "surely: no case fits", "-moved?"),
        ('"basic/reload-moved"', '"basik/x"', "surely: unknown module set: basik", "basic?"),
        ('"basic/reload-moved"', '"reload-moved"', "surely: no case fits", ""),
        ('cases = ["reload-moved"]', 'cases = ["mine"]', "fails: cases: no case", "suites = ["),
        ('"basic/reload-moved"', '"basic/zzzz"', "surely: no case fits", "suites = ["),
        ('"basic/reload-moved"', '"./none/x"', "none is not a module set", ""),
        ('modules = "basic"', 'modules = "basics"', "fails: modules: unknown", "basic?"),
        ('cases = ["reload-moved"]', 'cases = ["reload-movd"]', "fails: cases: no case", "moved?"),
        ('"+klp_target#2"', '"+klp_targt#2"', "no module 'klp_targt'", "did you mean"),
        ('"+klp_target#2"', '"+klp_target#x"', "event: '+klp_target#x': after #", ""),
        ('"+klp_target#2"', '"+klp_target#0"', "event: '+klp_target#0': after #", ""),
        ('"+klp_target#2"', '"+klp_target#9"', "is in none of its orders", ""),
        ('"+klp_target#2"', '"+klp_target  +klp_target"', "is not one event", ""),
        ('"+klp_target#2"', '" +klp_target"', "is written '+klp_target'", ""),
        ('"+klp_patch +klp_target -', '"+klp_patch klp_target -', "fails: orders: ", ""),
        ('">=6.1,<6.3"', '"6.1"', "kernels: '6.1' is no comparison", ">=6.1"),
        ('">=6.1,<6.3"', '">=6.1,6.3"', "kernels: '6.3' is no comparison", ">=6.1"),
        ('">=6.1,<6.3"', "6.1", "kernels of 'mine': input should be", ""),
        ('"health"', '"helth"', "kind of 'mine': input should be", ""),
        ('"health"', '"sysfs"', "kind: sysfs: known are answer", ""),
        ('"health"', '"answer"', "errno: missing, which an issue of kind answer needs", ""),
        ('"health"', '"answer"\nerrno = "ENOEXE"', "errno: 'ENOEXE' is no errno", ""),
        ('"health"', '"relocation"', "via: missing", ""),
        ('"health"', '"relocation"\nvia = "gto"', "via of 'mine': input should be", ""),
        ('"health"', '"value"', "differs: missing", ""),
        ('"health"', '"health"\nstale = true', "via: missing, which what is stale", ""),
        ('"health"', '"health"\ninside = "module"', "inside of 'mine': input should be", ""),
        ('["BUG"]', '[""]', "reports: an empty text", ""),
        ('["BUG"]', '"BUG"', "reports of 'mine': input should be", ""),
        ('["BUG"]', "[]", "reports: missing", ""),
        (
            'reports = ["BUG"]',
            'report = ["BUG"]',
            "report of 'mine': unknown key, did you mean 'reports'?",
            "",
        ),
        (
            'event = "',
            'events = "',
            "fails[0].events of 'mine': unknown key, did you mean 'event'?",
            "",
        ),
        ('title = "a title"\n', "", "title of 'mine': missing", ""),
    ],
)
def test_what_is_wrong_is_told_with_file_issue_and_key(
    tmp_path: Path, old: str, new: str, wrong: str, hint: str
) -> None:
    assert old in MINE
    file = written(tmp_path / "mine.toml", MINE.replace(old, new))
    with pytest.raises(UsageError) as caught:
        load(file)
    told = str(caught.value)
    assert told.startswith((f"{file}: issue 'mine': ", f"{file}: issue[0].")) and "'mine'" in told
    assert wrong in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (MINE + MINE, "{file}: issue 'mine': there is another of this id"),
        (MINE.replace('"mine"', '"x86-reload"'), "another of this id, and in {ours}"),
        (MINE.replace('"mine"', '"a b"'), "{file}: issue 'a b': id: 'a b': letters"),
        (MINE.replace('"mine"', "3"), "{file}: issue[0].id: "),
        (MINE.replace("[[issue]]", "[[isue]]").replace("[[issue.f", "[[isue.f"), "isue: unknown"),
        ("issue = 3", "{file}: issue: "),
        ("issue = [3]", "{file}: issue[0]: "),
        ('suites = ["./none.toml"]', "none.toml: No such file"),
        ("[[issue", "{file}: "),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, wrong: str) -> None:
    file = written(tmp_path / "mine.toml", text)
    ours = catalog.data_dir("kernel-config") / "known-issues.toml"
    with pytest.raises(UsageError) as caught:
        load(file)
    assert wrong.format(file=file, ours=ours) in str(caught.value)


def test_neither_event_nor_case_is_no_issue(tmp_path: Path) -> None:
    nowhere = MINE.partition("[[issue.fails]]")[0].replace('lacks = "clears-on-unload"\n', "")
    with pytest.raises(UsageError, match=r"mine.toml: issue 'mine': lacks: missing, and so is"):
        load(written(tmp_path / "mine.toml", nowhere))
    with pytest.raises(UsageError, match="fails: names no case"):
        unnamed = MINE.replace('cases = ["reload-moved"]\n', "").partition("orders = ")[0]
        load(written(tmp_path / "mine.toml", unnamed))
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path / "nowhere.toml")


def test_a_path_in_it_is_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module set, a suite, an architecture and a series of the user's own."""
    basic = catalog.module_set("basic").directory
    mine = tmp_path / "lists" / "mine"
    mine.mkdir(parents=True)
    (mine / "set.toml").write_bytes(
        (basic / "set.toml").read_bytes().replace(b'"basic"', b'"mine"')
    )
    order = "+klp_patch +klp_target -klp_target +klp_target"
    written(
        tmp_path / "lists/suite.toml",
        'description = "d"\n[[case]]\nname = "again"\nwhy = "w"\nmodules = "./mine"\n'
        f'order = "{order}"\n',
    )
    arch = catalog.arch_files()["s390x"]
    written(tmp_path / "lists/s390z.toml", arch.read_text())
    written(tmp_path / "lists/s390z.config", "")
    text = (
        MINE.replace('"s390x"', '"./s390z.toml"')
        .replace('"basic/reload-moved"', '"./mine/again", "./mine/order-7"')
        .replace('modules = "basic"', 'modules = "./mine"')
        .replace('cases = ["reload-moved"]', 'cases = ["again"]')
        .replace('"livepatch-reload"', '"./series"')
    )
    file = written(tmp_path / "lists/mine.toml", 'suites = ["suite.toml"]\n' + text)
    monkeypatch.chdir("/")
    issue = load(file)[-1]
    assert issue.architectures == ("s390z",)
    assert issue.surely == (f"{mine}/again", f"{mine}/order-7")
    assert issue.fails[0].modules == str(mine)
    assert issue.without_series == (str(tmp_path / "lists/series"),)
    file.write_text(text)
    with pytest.raises(UsageError, match=f"no case fits '{mine}/again'"):
        load(file)


def test_a_command_refuses_it_before_it_makes_a_directory(tmp_path: Path) -> None:
    file = written(tmp_path / "mine.toml", MINE.replace("basic/reload-moved", "basic/nothing"))
    out = tmp_path / "out"
    for command in ("run", "explore", "malformed"):
        told = klp(command, "--arch", "s390x", "--known-issues", file, "-o", out)
        assert told.code == 2 and f"{file}: issue 'mine': surely" in told.err
        assert not out.exists()


def test_an_issue_of_a_strangers_bundle_can_be_judged_by() -> None:
    good = KnownIssue("i", "t", "r", "<7.0", ("x",), CheckKind.ANSWER, errno="EINVAL", lacks="a")
    issuecheck.well_formed(good, "bundle")
    for wrong in (
        replace(good, kernels="x"),
        replace(good, errno="EX"),
        replace(good, id="\033[2J"),
        replace(good, fails=(Fails("basic", "+", orders=("+m",)),)),
        replace(good, fails=(Fails("basic", "+m#x"),)),
    ):
        with pytest.raises(UsageError) as caught:
            issuecheck.well_formed(wrong, "bundle")
        assert str(caught.value).startswith("bundle: ")

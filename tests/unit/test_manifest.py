# SPDX-License-Identifier: GPL-2.0-only
"""A set.toml makes sense, or is refused in one message that says where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.errors import UsageError

GOOD = """
[[modules]]
name = "t"
kind = "target"
ko = "{arch}/t.ko"
[[modules]]
name = "p"
kind = "livepatch"
patches.t = ["show", "twin,2"]
depends = ["t"]
[[probes]]
name = "shown"
command = "cat /proc/t"
object = "t"
function = "twin,2"
original = "1"
patched.p = "2"
"""


def load(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "set.toml").write_text(text)
    catalog.module_set(str(tmp_path / "mine"))


ORIGIN = """
[origin]
builder = "klp-build"
version = "7.3.4"
patches = [{ file = "FILE", sha256 = "%s" }]
warned = ["f: left out"]
""" % ("0" * 64)


@pytest.mark.parametrize("file", ["../fix.patch", "/etc/passwd", ".ssh", "a/b.patch", "", "a b"])
def test_a_source_patch_lies_beside_set_toml(tmp_path: Path, file: str) -> None:
    """It goes into bundles, which are sent to others."""
    with pytest.raises(UsageError, match="file"):
        load(tmp_path, GOOD + ORIGIN.replace("FILE", file))


@pytest.mark.parametrize("old", ["klp-build", "7.3.4", "f: left out"])
def test_what_is_shown_of_an_origin_moves_no_cursor(tmp_path: Path, old: str) -> None:
    with pytest.raises(UsageError, match=r"origin .* has control characters"):
        load(tmp_path, GOOD + ORIGIN.replace("FILE", "fix.patch").replace(old, "x\\u001b[2J"))


def test_a_copy_of_a_set_of_ours_is_told_to_leave_out_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name: must be 'mine', after the file's place") as caught:
        load(tmp_path, f'name = "basic"\n{GOOD}')
    assert "leave it out" in caught.value.hint


def test_what_is_right_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path / "mine")
    for place in (".", "./", "../mine", str(tmp_path / "mine" / ".." / "mine")):
        found = catalog.module_set(place)
        assert (found.name, found.directory) == ("mine", tmp_path / "mine")
    bare = GOOD.split("[[probes]]")[0]  # whoever has no probe gets the rest verified
    (tmp_path / "mine" / "set.toml").write_text(bare)
    assert catalog.module_set(".").probes == ()


@pytest.mark.parametrize("errno", ['"EINVAL"', "22"])
def test_an_errno_has_a_name_and_a_number(tmp_path: Path, errno: str) -> None:
    defect = f'[[modules.defects]]\nobject = "t"\nerrno = {errno}\nwritten = true\n'
    load(tmp_path, GOOD.replace("[[probes]]", f"{defect}[[probes]]"))
    spec = catalog.module_set(str(tmp_path / "mine")).module("p")
    assert spec is not None and [found.errno for found in spec.defects] == [22]


@pytest.mark.parametrize(
    ("errno", "wrong"),
    [
        ('"EINVALL"', "must be an errno's name, or its number, not 'EINVALL'"),
        ('"22"', "must be an errno's name, or its number, not '22'"),
        ("-22", "greater than or equal to 1, not -22"),
        ("0", "greater than or equal to 1, not 0"),
        ("4096", "less than or equal to 4095, not 4096"),
        ("22.0", "valid integer, not 22.0"),
    ],
)
def test_what_is_no_errno_is_refused(tmp_path: Path, errno: str, wrong: str) -> None:
    defect = f'[[modules.defects]]\nobject = "t"\nerrno = {errno}\nwritten = true\n'
    with pytest.raises(UsageError, match=rf"defects\[0\].errno of 'p': .*{wrong}"):
        load(tmp_path, GOOD.replace("[[probes]]", f"{defect}[[probes]]"))


@pytest.mark.parametrize("patched", ["twin", "twin,1"])
@pytest.mark.parametrize("shown", ["twin", "twin,1"])
def test_a_name_and_its_first_position_are_one_function(
    tmp_path: Path, patched: str, shown: str
) -> None:
    function = GOOD.replace('function = "twin,2"', f'function = "{shown}"')
    load(tmp_path, function.replace('"twin,2"]', f'"{patched}"]'))


@pytest.mark.parametrize(
    ("right", "wrong", "message", "hint"),
    [
        (GOOD, "modules = []", "it names no module", r"\[\[modules\]\]"),
        ('name = "p"', 'name = "t"', "2 modules are named 't'", "rename"),
        *(
            (GOOD, f'{GOOD}[[modules]]\nname = "r"\n{text}', message, hint)
            for text, message, hint in (
                ('kind = "plain"\nroom.data = "1 M"', "room: data: '1 M' is no size", "130M"),
                ('kind = "plain"\nroom = {}\nko = "r.ko"', "room: its .ko is used as", "here"),
                ('kind = "plain"\nroom = {}\ndepends = ["t"]', "depends: with `room` a", "leave"),
                ('kind = "plain"\nroom = {}\ncopies = 17', "copies: 17 is no number", "1 to 16"),
                ('kind = "plain"\nroom = {}\ncopies = 0', "copies: 0 is no number", "1 to 16"),
                ('kind = "plain"\ncopies = 2', "copies: only a plain module with `room`", "{}"),
                ('kind = "plain"\ncopy_of = "q"', "copy_of: `copies` says that", "leave"),
                ('kind = "target"\npage_end = true', "page_end: only a livepatch", "leave"),
            )
        ),
        (
            'name = "t"',
            'name = "t_1"\nkind = "plain"\n[[modules]]\nname = "t"\nroom = {}\ncopies = 2',
            "2 modules are named 't_1'",
            "rename",
        ),
        ('name = "p"', 'name = "klp-p.ko"', "module 'klp-p.ko': that is no", '"klp_p"'),
        ('name = "p"', "", r"modules\[1\].name: missing", ""),
        ('kind = "livepatch"', 'kind = "patch"', r"modules\[1\].kind of 'p': .*'livepatch'", ""),
        ('kind = "livepatch"', 'kind = "plain"', "module 'p': patches: only a livepatch", "kind"),
        ('kind = "target"', 'kind = "target"\nstates = { 1 = 2 }', "'t': states: only a l", "kind"),
        ('depends = ["t"]', "states = { 01 = 2 }", "states: '01' is no id", "unsigned long"),
        ('depends = ["t"]', "states = { 0 = 2 }", "states: '0' is no id", "not 0"),
        ('depends = ["t"]', "states = { 18446744073709551616 = 2 }", "616' is no id", "decimal"),
        ('depends = ["t"]', "states = { 1 = 4294967296 }", "4294967296 is no version", "int"),
        ('depends = ["t"]', "states = { 1 = -1 }", "states: 1: -1 is no version", "unsigned"),
        ('kind = "target"', 'kind = "plain"', "it is plain, and p patches it", 'kind = "target"?'),
        ('patches.t = ["show", "twin,2"]', "", "module 'p': .* what it patches", r"\[modules.pa"),
        ('"show"', '"show it"', "patches: 'show it' is no symbol", "NAME,1"),
        ("patches.t", "patches.p", "it patches itself", ""),
        ('kind = "target"', 'kind = "target"\ndepends = ["p"]', "t -> p -> t", "take one"),
        ('"show"', '"twin,2"', "t has 'twin,2' 2 times", "once"),
        ('depends = ["t"]', 'klp_symbols.tt = ["a"]', "it does not patch 'tt'", "mean 't'"),
        ('depends = ["t"]', 'klp_symbols.other = ["a"]', "not patch 'other'", '"other:NAME"'),
        ('depends = ["t"]', 'klp_symbols.t = ["u:a"]', "'u:a': the set has no", "known modules"),
        ('depends = ["t"]', 'klp_symbols.vmlinux = ["t:a"]', "'t:a' would be written once", "put"),
        ('depends = ["t"]', 'depends = ["u"]', "'u' is no other module", "known modules: t, p"),
        ('command = "cat /proc/t"', "", "probe 'shown': .*one of `file` and", "a file of the"),
        ("command", 'file = "/t"\ncommand', "probe 'shown': .*one of `file` and", "a file of the"),
        ('command = "cat /proc/t"', 'file = "t"', "'t' is no path in the guest", "begins with"),
        ('object = "t"', 'object = "u"', "object: the set has no module 'u'", "known modules: t"),
        (
            'function = "twin,2"',
            'function = "shwo"',
            "p does not replace shwo of t",
            "did you mean 'show'? it replaces",
        ),
        (
            'function = "twin,2"',
            'function = "f"',
            "p does not replace f of t",
            "it replaces show, twin,2 of it",
        ),
        ('patched.p = "2"', "", "does not say what it shows under p", 'add `p = "..."`'),
        *(
            ('patched.p = "2"', f'patched.p = "2"\nwarns.{text}', message, hint)
            for text, message, hint in (
                ('t = "x.c:1 f [p]"', "warns: there is no text .* under t", "patched function"),
                ('p = "x.c f [p]"', r"warns: 'x.c f \[p\]' is no place", "my_livepatch"),
                ('p = "a/x.c:1 f [p]"', "warns: .* is no place", "patch.c:42"),
                ('p = "x.c:1 f\\n"', "has control characters", "without"),
            )
        ),
        (
            "command =",
            'at = "callbacks"\ncommand =',
            "what it shows of pre_patch, post_p",
            "pre_patch =",
        ),
        (GOOD, f'in_tree = "a/../.."\n{GOOD}', "'a/../..' leads out of the kernel", "name one"),
        (GOOD, f'in_tree = "/lib"\n{GOOD}', "'/lib' leads out of the kernel", "name one"),
        ('name = "shown"', r'name = "a\nb"', r"probe 'a\\nb' has control", "without"),
        ('"show"', r'"show\u001b"', r"patches 'show\\x1b' has control", "without"),
        (
            '"twin,2"\noriginal',
            r'"f\u202e"' "\noriginal",
            r"probe 'f\\u202e' has control",
            "without",
        ),
        ('depends = ["t"]', r'parameters = ["\u007f"]', r"parameters '\\x7f' has", "without"),
        ('"{arch}/t.ko"', r'"{arch}\u0000"', r"ko '\{arch\}\\x00' has", "without"),
        ("ko =", "kos =", r"modules\[0\].kos of 't': unknown key, did you mean 'ko'\?", ""),
        ("function =", "fonction =", r"probes\[0\].fonction of 'shown': .* mean 'function'", ""),
    ],
)
def test_what_is_wrong_is_said_once(
    tmp_path: Path, right: str, wrong: str, message: str, hint: str
) -> None:
    assert right in GOOD
    with pytest.raises(UsageError, match=rf"mine/set\.toml: .*{message}") as caught:
        load(tmp_path, GOOD.replace(right, wrong))
    assert hint in caught.value.hint.replace("[", r"\[").replace("]", r"\]")


def test_a_directory_may_not_have_a_line_end_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a\nb").mkdir()
    (tmp_path / "a\nb" / "set.toml").write_text(GOOD)
    with pytest.raises(UsageError, match=r"the directory's name 'a\\nb' has control"):
        catalog.module_set(str(tmp_path / "a\nb"))


def test_a_set_of_very_many_modules_is_refused(tmp_path: Path) -> None:
    more = "".join(f'[[modules]]\nname = "m{n}"\nkind = "plain"\n' for n in range(63))
    with pytest.raises(UsageError, match="65 modules, more than 64"):
        load(tmp_path, more + GOOD)


def test_a_directory_without_a_slash_is_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="unknown module set: mine") as caught:
        catalog.module_set("mine")
    assert "./mine" in caught.value.hint
    with pytest.raises(UsageError, match=r"\./gone is not a module set"):
        catalog.module_set("./gone")

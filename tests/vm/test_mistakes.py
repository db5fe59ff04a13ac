# SPDX-License-Identifier: GPL-2.0-only
"""One mistake at a time in a module set of somebody's own, in what is typed, in a suite, in a
series: each is told as what it is, and never as the kernel's fault.

    PYTHONPATH=tests .venv/bin/python tests/vm/test_mistakes.py [NAME...]

prints them as a table: what was done wrong, what was said, the exit code.

What is told before a boot is told in this process, and what is told of guests by one run with a
set for each mistake: to begin a hundred processes, and to boot for each, takes longer than all that
they do. Of each exit code one is that of a process of its own (`alone`).
"""

from __future__ import annotations

import contextlib
import lzma
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from samples import Told, klp
from vmkit import klp_e2e

from orchestrator.errors import Exit
from orchestrator.host import process
from orchestrator.report import directory, verdict

pytestmark = pytest.mark.xdist_group("mistakes")  # the modules that are right are made once

MINE = Path(__file__).with_name("mine")
NAMES = ("my_base", "my_target", "my_fix", "my_filler")
ORDERS = (
    "+my_base +my_fix +my_target -my_target +my_filler +my_target my_fix=0 -my_fix",
    "+my_base +my_target -my_target +my_filler +my_target +my_fix my_fix=0 -my_fix",
)
ARCH, OTHER = "x86_64", "s390x"
MAKE: Mapping[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[: len(data) // 2],
    "compressed": lzma.compress,
    "of another kernel": lambda data: data.replace(b"vermagic=6.1", b"vermagic=5.9"),
    "empty": lambda _: b"",
    "text": lambda _: b"this is no module\n",
}


@dataclass(frozen=True)
class Mistake:
    """What is done wrong, and what is to be said of it. Options replace those of the run."""

    what: str
    said: str
    code: int = 2
    edits: tuple[tuple[str, str, str], ...] = ()  # file, what stands there, what is put there
    files: Mapping[str, str] = field(default_factory=dict)  # written whole
    argv: tuple[str, ...] = ()
    spoilt: str = ""  # a .ko that others built, and is spoilt so
    slow: bool = False  # a guest is booted
    alone: bool = False  # in a process of its own


def toml(
    what: str, right: str, wrong: str, said: str, code: int = 2, slow: bool = False
) -> Mistake:
    return Mistake(what, said, code, (("set.toml", right, wrong),), slow=slow)


def code(what: str, file: str, right: str, wrong: str, said: str, code: int = 3) -> Mistake:
    return Mistake(what, said, code, ((file, right, wrong),))


def boots(what: str, file: str, right: str, wrong: str, said: str) -> Mistake:
    return Mistake(what, said, 4, ((file, right, wrong),), slow=True)


def typed(what: str, *argv: str, said: str, code: int = 2, alone: bool = False) -> Mistake:
    return Mistake(what, said, code, argv=argv, alone=alone)


def built(what: str, module: str, spoilt: str, said: str, code: int = 2) -> Mistake:
    """One .ko that others built is not as it should be."""
    edit = ("set.toml", f'name = "{module}"', f'name = "{module}"\nko = "{module}.ko"')
    return Mistake(what, said, code, (edit,), spoilt=spoilt)


SHOW, LIMIT = 'my_target = ["my_show"]', 'my_target = ["my_limit"]'
FUNC = '{ .old_name = "my_show", .new_func = my_fixed_show },'
FILE = 'file = "/sys/module/my_target/parameters/show"'
RUN = ("run", "--arch", ARCH)
CASE = """
[[case]]
name = "one"
modules = "./mine"
order = "+my_base +my_fix"
why = "to see it"
"""
SUITE = f'description = "mine"\n{CASE}'
PATCH = """From: Me <me@example.org>
Subject: [PATCH] version

---
 Makefile | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

--- a/Makefile
+++ b/Makefile
@@ -1,3 +1,3 @@
 # this line is not there
-VERSION = 6
+VERSION = 7
 nor is this
"""

MISTAKES = (
    # --- set.toml
    toml("a key is misspelt", "function =", "fonction =", "did you mean 'function'"),
    toml("a key of modules is misspelt", "depends =", "depend =", "did you mean 'depends'"),
    toml("a module without kind", 'kind = "target"\n', "", "missing"),
    toml("an unknown kind", 'kind = "target"', 'kind = "patched"', "'target', 'livepatch'"),
    toml("the target is called plain", 'kind = "target"', 'kind = "plain"', "my_fix patches it"),
    toml("the livepatch is called target", '"livepatch"', '"target"', "only a livepatch has that"),
    toml("a dash in a name", 'name = "my_fix"', 'name = "my-fix"', 'as `lsmod` shows it: "my_fix"'),
    toml("a name with .ko", 'name = "my_fix"', 'name = "my_fix.ko"', "that is no module's name"),
    toml("two modules of one name", '"my_filler"', '"my_base"', "2 modules are named 'my_base'"),
    toml("depends on nobody", '["my_base"]', '["my_bsae"]', "'my_bsae' is no other module"),
    toml("depends on itself", '["my_base"]', '["my_target"]', "is no other module of the set"),
    toml(
        "depends in a circle",
        'name = "my_base"\nkind = "plain"',
        'name = "my_base"\nkind = "plain"\ndepends = ["my_target"]',
        "my_target -> my_base -> my_target",
    ),
    toml("depends left out", 'depends = ["my_base"]\n', "", "my_base"),
    toml("a function is misspelt", SHOW, 'my_target = ["my_shwo"]', "did you mean 'my_shwo'"),
    toml("one function too many", SHOW, 'my_target = ["my_show", "my_init"]', "my_init"),
    toml("a function twice", SHOW, 'my_target = ["my_show", "my_show"]', "2 times"),
    toml("no patches", f"[modules.patches]\n{SHOW}\n", "", "a livepatch has to say what it patch"),
    toml("an object is misspelt", SHOW, 'my_taget = ["my_show"]', "my_taget"),
    toml("one object too many", SHOW, f'{SHOW}\nmy_base = ["my_base_step"]', "my_base"),
    toml("a klp symbol is misspelt", LIMIT, 'my_target = ["my_limti"]', "my_limti"),
    toml(
        "a klp symbol's object is misspelt", LIMIT, 'my_taget = ["my_limit"]', "not patch 'my_tag"
    ),
    toml(
        "a klp symbol of what is not patched", LIMIT, 'my_filler = ["my_limit"]', "never writes the"
    ),
    toml("no klp symbols", f"[modules.klp_symbols]\n{LIMIT}\n", "", "my_limit", code=3),
    toml("a symbol's position is too high", LIMIT, 'my_target = ["my_limit,3"]', "my_limit"),
    toml("a symbol's position is a word", LIMIT, 'my_target = ["my_limit,x"]', "is no symbol"),
    toml("a symbol of an unknown module", LIMIT, 'my_target = ["me:my_limit"]', "no module 'me'"),
    Mistake(
        "replace only in set.toml",
        "replace",
        edits=(("set.toml", 'kind = "livepatch"', 'kind = "livepatch"\nreplace = true'),),
    ),
    toml(
        "the probe's function is misspelt", 'function = "my_show"', 'function = "my_sow"', "my_show"
    ),
    toml(
        "the probe's object is misspelt", 'object = "my_target"', 'object = "my"', "no module 'my'"
    ),
    toml("a probe of nothing", f"{FILE}\n", "", "one of `file` and `command`"),
    toml("a probe of two things", FILE, f'{FILE}\ncommand = "id"', "one of `file` and `command`"),
    toml("a relative path", '"/sys', '"sys', "is no path in the guest"),
    toml("no patched text", 'patched.my_fix = "limit=10"\n', "", "what it shows under my_fix"),
    toml(
        "no original text", 'original = "limit=11"\n', "", "probes[0].original of 'show': missing"
    ),
    toml("a text of an unknown livepatch", "patched.my_fix", "patched.my_fx", "known modules"),
    toml("no TOML", "[[probes]]", "[[probes", "at line 24"),
    Mistake("an empty set.toml", "modules: missing", files={"set.toml": ""}),
    toml("a type is wrong", '["my_base"]', '"my_base"', "depends"),
    toml("a file that is not there", FILE, 'file = "/proc/mien"', "no file /proc/mien", 4, True),
    toml("a command that is not there", FILE, 'command = "mien"', "no such command: mien", 4, True),
    Mistake(
        "a wrong patched text",
        "never showed 'limit=9'",
        4,
        (("set.toml", "limit=10", "limit=9"),),
        alone=True,
    ),
    toml("a wrong original text", "limit=11", "limit=12", "without any livepatch", 4, True),
    Mistake(
        "texts swapped",
        "without any livepatch",
        4,
        (
            ("set.toml", "limit=11", "limit=1"),
            ("set.toml", "limit=10", "limit=11"),
            ("set.toml", '"limit=1"', '"limit=10"'),
        ),
        slow=True,
    ),
    toml("an ordinary file is a record", FILE, f'{FILE}\nat = "init"', "no record", 4, True),
    # --- C, Kbuild
    Mistake(
        "a syntax error",
        "my_fix.c:11",
        3,
        (("my_fix.c", "return scnprintf", "retrun scnprintf"),),
        alone=True,
    ),
    code("no license", "my_base.c", 'MODULE_LICENSE("GPL");\n', "", "missing MODULE_LICENSE"),
    code(
        "not marked as a livepatch", "my_fix.c", 'MODULE_INFO(livepatch, "Y");', "", "livepatch", 2
    ),
    code("old_name is misspelt", "my_fix.c", '"my_show"', '"my_shwo"', "my_shwo", 2),
    code(
        "the object's name is misspelt", "my_fix.c", '.name = "my_target"', '.name = "my"', "my", 2
    ),
    code("no object's name", "my_fix.c", '.name = "my_target", ', "", "vmlinux", 2),
    code(
        "a wrong position", "my_fix.c", '"my_show",', '"my_show", .old_sympos = 2,', "my_show,2", 2
    ),
    code(
        "one function more",
        "my_fix.c",
        FUNC,
        f"{FUNC}\n\t{FUNC.replace('my_show', 'my_x')}",
        "my_x",
        2,
    ),
    code("a function twice in C", "my_fix.c", FUNC, f"{FUNC}\n\t{FUNC}", "my_show", 2),
    code(
        "replace only in C",
        "my_fix.c",
        ".objs = objs,",
        ".objs = objs, .replace = true,",
        "replace",
        2,
    ),
    Mistake(
        "a klp symbol is misspelt in C",
        "my_limit does not occur in the module",
        2,
        (
            ("my_fix.c", "extern int my_limit;", "extern int my_limti;"),
            ("my_fix.c", '\\n", my_limit', '\\n", my_limti'),
        ),
    ),
    code(
        "an exported symbol is misspelt",
        "my_target.c",
        "+ my_base_step",
        "+ my_base_stpe",
        "my_base_stpe",
    ),
    code("a module is not in Kbuild", "Kbuild", " my_filler.o", "", "my_filler"),
    code("a source is not there", "Kbuild", "my_filler.o", "my_filer.o", "my_filer"),
    Mistake("no Kbuild", "Kbuild", 2, files={"Kbuild": "-"}),
    code(
        "the function is inlined",
        "my_target.c",
        "__attribute__((__noipa__)) int",
        "static __always_inline int",
        "my_target has no symbol of that name",
        2,
    ),
    boots(
        "NULL in the patched function",
        "my_fix.c",
        '\\n", my_limit',
        '\\n", *(volatile int *)0 + my_limit',
        "code of the set",
    ),
    boots(
        "NULL in the function",
        "my_target.c",
        '\\n", my_limit',
        '\\n", *(volatile int *)0 + my_limit',
        "without any livepatch",
    ),
    boots(
        "a warning in the target's exit",
        "my_target.c",
        "my_exit(void)\n{",
        "my_exit(void)\n{\n\tWARN_ON(1);",
        "without any livepatch",
    ),
    boots(
        "the target's init fails",
        "my_target.c",
        "\treturn 0;",
        "\treturn -EINVAL;",
        "without any livepatch",
    ),
    Mistake(
        "the livepatch's init fails",
        "suspects   the kernel; or the modules, or set.toml, of this set",
        1,  # so it looks with a kernel that silently refuses to enable it, too
        (
            (
                "my_fix.c",
                "\treturn klp_enable_patch(&patch);",
                "\treturn patch.mod ? -ENODEV : klp_enable_patch(&patch);",
            ),
        ),
        alone=True,
    ),
    # --- built by others
    built("a .ko that is not there", "my_base", "", "my_base.ko"),
    *(built(f"a .ko that is {how}", "my_base", how, "my_base.ko") for how in MAKE),
    Mistake(
        "a livepatch that is not converted",
        "my_limit",
        3,
        (
            ("set.toml", 'name = "my_fix"', 'name = "my_fix"\nko = "my_fix.ko"'),
            ("set.toml", f"[modules.klp_symbols]\n{LIMIT}\n", ""),
        ),
        spoilt="not converted",
    ),
    built("another module's .ko", "my_base", "my_filler", "my_filler"),
    built("another architecture's .ko", "my_base", OTHER, "expected EM_X86_64"),
    # --- what is typed
    typed("a directory that is not there", *RUN, "--modules", "./mien", said="./mien"),
    typed("a directory without set.toml", *RUN, "--modules", ".", said="set.toml"),
    typed("an unknown set", *RUN, "--modules", "mine", said="as in ./mine"),
    typed("an unknown architecture", "run", "--arch", "x86", "--modules", "./mine", said=ARCH),
    typed("an unknown source", *RUN, "--kernel", "debain:6.1", said="debian:"),
    typed("a misspelt series", *RUN, "--series", "livepatch-relaod", said="livepatch-reload"),
    typed("an empty series", *RUN, "--series", "", said="series"),
    typed("more patches than there are", *RUN, "--series", "livepatch-reload@99", said="99"),
    typed("an unknown module", *RUN, "--modules", "./mine", "--order", "+my_fixx", said="my_fix'"),
    typed("half an event", *RUN, "--modules", "./mine", "--order", "my_fix", said="column 7"),
    typed(
        "a target is disabled",
        *RUN,
        "--modules",
        "./mine",
        "--order",
        "my_target=0",
        said="no livepatch",
    ),
    typed(
        "an unknown parameter",
        *RUN,
        "--modules",
        "./mine",
        "--order",
        "+my_fix[x=1]",
        said="parameters",
    ),
    typed(
        "only what must fail",
        *RUN,
        "--modules",
        "./mine",
        "--order",
        "-my_fix",
        said="nothing was proved",
        code=4,
    ),
    typed("an unknown case", *RUN, "--modules", "./mine", "--case", "order-99", said="order-99"),
    typed(
        "the suite of others",
        *RUN,
        "--modules",
        "./mine",
        "--suite",
        "core",
        said="has no order of",
    ),
    typed("an unknown suite", *RUN, "--suite", "corr", said="core"),
    typed("a suite that is not there", *RUN, "--suite", "./none.toml", said="none.toml"),
    typed("an unknown option", *RUN, "--modul", "./mine", said="--modules", alone=True),
    typed(
        "results in somebody's directory",
        *RUN,
        "--modules",
        "./mine",
        "-o",
        "mine",
        said="not empty",
    ),
    typed("going on with nothing", *RUN, "--modules", "./mine", "--resume", "none", said="none"),
    typed("an accelerator that is not here", *RUN, "--accel", "kvm", said="KVM", code=4)
    if not Path("/dev/kvm").exists()
    else typed("an unknown accelerator", *RUN, "--accel", "hvf", said="kvm"),
    typed(
        "convert into a directory",
        *("convert", "mine/set.toml", "mine", "--object", "t", "--symbol", "s"),
        said="mine",
    ),
    typed("inspect a text", "inspect", "mine/set.toml", said="set.toml", alone=True),
    # --- suites
    *(
        Mistake(
            what,
            said,
            files={"../s.toml": SUITE.replace(right, wrong)},
            argv=(*RUN, "--suite", "./s.toml"),
        )
        for what, right, wrong, said in (
            ("a suite's unknown module", "+my_fix", "+my_fx", "s.toml"),
            ("a suite's unknown set", "./mine", "./mien", "mien"),
            ("a suite's unknown key", "why =", "wy =", "s.toml"),
            ("a suite's name that is none", '"one"', '"One/two"', "s.toml"),
            ("a case twice", CASE, CASE + CASE, "two cases are named 'one'"),
            ("a suite without cases", SUITE, 'description = "x"', "has no order"),
        )
    ),
    # --- series
    *(
        Mistake(
            what,
            said,
            code,
            files={f"../{file}": text},
            argv=(*RUN, "--modules", "./mine", "--series", series),
        )
        for what, file, text, series, said, code in (
            ("a patch that does not apply", "v1.mbox", PATCH, "./v1.mbox", "does not apply", 3),
            ("a series that is a text", "v1.mbox", "hello\n", "./v1.mbox", "v1.mbox", 2),
            ("a series that is empty", "v1.mbox", "", "./v1.mbox", "v1.mbox", 2),
            ("a series of nothing", "q/series", "", "./q", "q", 2),
            ("a series that lacks a patch", "q/series", "a.patch\n", "./q", "a.patch", 2),
            ("a series that is not there", "q/x", "", "./p", "./p", 2),
        )
    ),
)


SLOW = tuple(mistake for mistake in MISTAKES if mistake.slow)


def make(mistake: Mistake, mine: Path, modules: Mapping[str, bytes]) -> None:
    """The set with this mistake, in a directory. modules: what is right, by name."""
    shutil.copytree(MINE, mine)
    for file, right, wrong in mistake.edits:
        text = (mine / file).read_text()
        assert right in text, (mistake.what, right)
        (mine / file).write_text(text.replace(right, wrong, 1))
    for file, text in mistake.files.items():
        (mine / file).parent.mkdir(exist_ok=True)
        if text == "-":
            (mine / file).unlink()
        else:
            (mine / file).write_text(text)
    if mistake.spoilt:  # (a .ko of others is named in set.toml, and may still not be there)
        name = next(n for n in NAMES if f'ko = "{n}.ko"' in (mine / "set.toml").read_text())
        if mistake.spoilt in MAKE:
            (mine / f"{name}.ko").write_bytes(MAKE[mistake.spoilt](modules[name]))
        elif mistake.spoilt:
            (mine / f"{name}.ko").write_bytes(modules.get(mistake.spoilt, modules[name]))


def modules_of_others(place: Path) -> Mapping[str, bytes]:
    """The set's modules as make alone makes them, and one of the other architecture's."""
    trees = {}
    for line in klp_e2e("build", "--arch", ARCH, "--arch", OTHER).output.splitlines():
        arch, _, directory = line.split(maxsplit=2)
        trees[arch] = Path(directory) / "build"
    mine = place / "raw"
    shutil.copytree(MINE, mine)
    process.run(["make", "-C", trees[ARCH], f"M={mine}", "KBUILD_MODPOST_WARN=1", "modules"])
    found = {name: (mine / f"{name}.ko").read_bytes() for name in NAMES}
    other = trees[OTHER] / "samples/livepatch/livepatch-sample.ko"
    return {**found, OTHER: other.read_bytes()}


def tell(mistake: Mistake, place: Path, modules: Mapping[str, bytes]) -> Told:
    """What klp-e2e says of it, run in `place`."""
    place.mkdir()
    make(mistake, place / "mine", modules)
    argv = mistake.argv or (*RUN, "--modules", "./mine")
    if not mistake.argv:
        argv = (*argv, *(word for order in ORDERS for word in ("--order", order)))
    if argv[0] == "run" and "-o" not in argv and "--resume" not in argv:
        argv = (*argv, "-o", "results")
    if not mistake.alone:
        with contextlib.chdir(place):
            return klp(*argv)
    program = Path(sys.executable).with_name("klp-e2e")
    done = process.run([program, *argv], check=False, cwd=place)
    return Told(done.code, done.output, done.errors)


def tell_together(
    mistakes: Sequence[Mistake], place: Path, modules: Mapping[str, bytes]
) -> Mapping[str, Told]:
    """Mistake -> what one run of all of them, in `place`, says of its set, and the exit code that
    goes with that."""
    place.mkdir()
    suite = 'description = "mistakes"\n'
    for number, mistake in enumerate(mistakes):
        make(mistake, place / f"m{number}", modules)
        for which, order in enumerate(ORDERS):
            suite += f'[[case]]\nname = "m{number}-{which}"\nmodules = "./m{number}"\n'
            suite += f'order = "{order}"\nwhy = "{mistake.what}"\n'
    (place / "s.toml").write_text(suite)
    with contextlib.chdir(place):
        told = klp(*RUN, "--suite", "./s.toml", "-o", "results")
    if not (place / "results").exists():
        return {mistake.what: told for mistake in mistakes}
    run, results = directory.read(place / "results")
    assert told.code == verdict.results_exit_code(run, results)
    found = {}
    for number, mistake in enumerate(mistakes):
        mine = [each for each in results if each.case.module_set == str(place / f"m{number}")]
        blocks = (b for b in told.out.split("\n\n") if f" m{number}/" in b.partition(":")[0])
        code = verdict.results_exit_code(replace(run, planned=len(mine)), mine)
        found[mistake.what] = Told(code, "\n\n".join(blocks), told.err)
    return found


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    return modules_of_others(tmp_path_factory.mktemp("others"))


@pytest.fixture(scope="module")
def booted(
    tmp_path_factory: pytest.TempPathFactory, modules: Mapping[str, bytes]
) -> Mapping[str, Told]:
    return tell_together(SLOW, tmp_path_factory.mktemp("together") / "here", modules)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.what)
def test_a_mistake_is_told_as_what_it_is(
    mistake: Mistake,
    tmp_path: Path,
    modules: Mapping[str, bytes],
    request: pytest.FixtureRequest,
) -> None:
    if mistake.slow:
        told = request.getfixturevalue("booted")[mistake.what]
    else:
        told = tell(mistake, tmp_path / "here", modules)
    assert mistake.said in told.out + told.err
    assert told.code == mistake.code
    assert told.code != Exit.TEST_FAILURE or "suspects" in told.out
    assert "Traceback" not in told.err and "a mistake of klp-e2e itself" not in told.err


def first_line(told: Told) -> str:
    """What a reader sees first of what went wrong."""
    lines = [line for line in (told.err + told.out).splitlines() if line.strip()]
    marked = (line for line in lines if re.match(r"klp-e2e: |(ERROR|FAIL) \S+ \S+: ", line))
    return next(marked, lines[-1] if lines else "")


def main(names: list[str]) -> None:
    """The table, in Markdown."""
    print("| what was done wrong | what was said, first line | exit code |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        made = modules_of_others(place)
        wanted = [m for m in MISTAKES if not names or any(name in m.what for name in names)]
        slow = [m for m in wanted if m.slow]
        booted = tell_together(slow, place / "together", made) if slow else {}
        for number, mistake in enumerate(wanted):
            told = booted.get(mistake.what) or tell(mistake, place / str(number), made)
            wrong = "" if told.code == mistake.code else f", not {mistake.code}"
            wrong += "" if mistake.said in told.out + told.err else f" (without: {mistake.said})"
            said = first_line(told).replace("|", "\\|").replace(str(place / str(number)), "")
            print(f"| {mistake.what} | {said} | {told.code}{wrong} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

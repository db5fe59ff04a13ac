# SPDX-License-Identifier: GPL-2.0-only
"""Merging fragments, and noticing what a `.config` lost of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import catalog
from orchestrator.build import kconfig, kconfigtree, knownoptions, toolchain
from orchestrator.build.kconfig import LostOption
from orchestrator.build.kernel import configuration
from orchestrator.catalog import arches, data_dir
from orchestrator.nouns import Arch

KCONFIG = """
config LIVEPATCH
\tbool "Kernel Live Patching"
\tdepends on DYNAMIC_FTRACE_WITH_REGS || \\
\t\t   DYNAMIC_FTRACE_WITH_ARGS
\tdepends on MODULES
\thelp
\t  depends on nothing in this text.

config OTHER
\tdepends on NOT_MINE

config MODULES
\tbool "Modules"
\tselect CHOSEN

config CHOSEN
\tbool
"""


def test_a_later_fragment_wins_and_each_option_stands_once() -> None:
    merged = kconfig.merge(["CONFIG_A=y\nCONFIG_B=m\n", "# why\n# CONFIG_A is not set\nCONFIG_C=4"])
    assert merged == "# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_C=4\n"


def test_a_line_that_is_no_option_is_named() -> None:
    with pytest.raises(ValueError, match="line 2 is not a Kconfig option: CONFIG_B y"):
        kconfig.merge(["CONFIG_A=y\nCONFIG_B y\n"])


def test_a_value_that_make_would_expand_is_named() -> None:
    text = '# $ in a comment\nCONFIG_A=y\nCONFIG_LOCALVERSION="$(shell id)"\n'
    assert [wrong[:21] for wrong in kconfig.unreadable(text)] == ["line 3 has a $ in it,"]
    with pytest.raises(ValueError, match="make would expand"):
        kconfig.merge(["CONFIG_B=y\n", text])


@pytest.mark.parametrize("value", ["`id`", "a; id", "a|id", "a & id", "a >x", "<a", "a&&id"])
def test_a_value_that_a_recipe_s_shell_would_carry_out_is_named(value: str) -> None:
    """A fragment of somebody's ran a command on the host: usr/Makefile, cmd_initfs."""
    text = f'# {value}\nCONFIG_A=y\nCONFIG_INITRAMFS_SOURCE="{value}"\n'
    assert [wrong[:12] for wrong in kconfig.unreadable(text)] == ["line 3 has a"]
    with pytest.raises(ValueError, match="for a shell to see"):
        kconfig.merge([text])


@pytest.mark.parametrize("value", ["-l /x", "a -l /x", "a '-l' /x", r"a \-l /x", r"a\" -l /x"])
def test_options_of_the_program_that_makes_an_initramfs_are_no_files(value: str) -> None:
    """`-l FILE` and `-o FILE` write over it."""
    (told,) = kconfig.unreadable(f'CONFIG_INITRAMFS_SOURCE="{value}"\n')
    assert "options of gen_initramfs.sh" in told
    assert not kconfig.unreadable('CONFIG_INITRAMFS_SOURCE="a/b-c.cpio d-e"\n')


def test_a_whole_config_as_a_kernel_has_it_is_readable() -> None:
    text = 'CONFIG_CC_VERSION_TEXT="gcc (Debian 12.2.0-14) 12.2.0"\nCONFIG_CMDLINE="a=b,c d -e"\n'
    assert not kconfig.unreadable(text + 'CONFIG_DEFAULT_HOSTNAME="(none)"\nCONFIG_N=-1\n')


def test_lost_options_are_those_that_came_out_otherwise() -> None:
    requested = 'CONFIG_GONE=y\nCONFIG_KEPT=y\nCONFIG_BUILTIN=m\nCONFIG_S="x"\n'
    requested += "# CONFIG_STUCK is not set\n# CONFIG_UNKNOWN is not set\n"
    final = 'CONFIG_KEPT=y\nCONFIG_BUILTIN=y\nCONFIG_S=""\nCONFIG_STUCK=y\n'
    assert kconfig.lost(requested, final) == (
        LostOption("GONE", "y", "n"),
        LostOption("BUILTIN", "m", "y"),
        LostOption("S", '"x"', '""'),
        LostOption("STUCK", "n", "y"),
    )


def explained(requested: str, final: str) -> list[str]:
    """The lines, for a tree that has KCONFIG alone."""
    tree = kconfigtree.read({kconfigtree.TOP: KCONFIG}.get, "toy")
    return kconfig.explain(kconfig.lost(requested, final), tree, final).splitlines()


def test_what_stands_in_an_option_s_way_is_named() -> None:
    lines = explained("CONFIG_LIVEPATCH=y\n", "CONFIG_DYNAMIC_FTRACE_WITH_REGS=y\n")
    assert lines == [
        "CONFIG_LIVEPATCH=y became n: Kconfig:2: LIVEPATCH depends on MODULES",
        "    MODULES is not asked for: CONFIG_MODULES=y belongs into the fragment",
    ]  # and nothing of the other half of an `A || B`, which holds


@pytest.mark.parametrize(
    ("requested", "final", "why"),
    [
        ("CONFIG_NONESUCH=y\n", "", "=y became n: this kernel has no option NONESUCH"),
        ("CONFIG_OTHER=y\n", "", "=y became n: Kconfig:10: OTHER depends on NOT_MINE"),
        ("CONFIG_MODULES=y\n", "", "=y became n: no dependency of its own is unmet"),
        (
            "# CONFIG_CHOSEN is not set\n",
            "CONFIG_CHOSEN=y\nCONFIG_MODULES=y\n",
            "=n became y: Kconfig:15: select CHOSEN",
        ),
        (
            "# CONFIG_OTHER is not set\n",
            "CONFIG_OTHER=y\n",
            "=n became y: it cannot be turned off",
        ),
    ],
)
def test_why_an_option_came_out_otherwise(requested: str, final: str, why: str) -> None:
    name = requested.removeprefix("# ").split("=")[0].split()[0]
    assert explained(requested, final)[0] == name + why


@pytest.mark.parametrize("name", sorted(arches()))
def test_our_fragments_merge_and_do_not_contradict_one_another(name: str) -> None:
    base = kconfig.parse((data_dir("kernel-config") / "base.config").read_text())
    own = kconfig.parse((data_dir("kernel-config") / f"{name}.config").read_text())
    assert base["LIVEPATCH"] == "y" and own
    # What all have, one may lack, and says so.
    assert all(own[name] == "n" for name in set(base) & set(own))


# --- options that come and go ---------------------------------------------------------------------

TREE = (
    "config OLD\n\tbool\nconfig LIVEPATCH\n\tbool\n\tdepends on OLD\n",
    "menuconfig NEW\n\tbool\n\nconfig RENAMED\n\tbool\n\ttransitional\n",
)


@pytest.mark.parametrize(
    ("requested", "final", "lost", "absent", "unknown"),
    [
        ("CONFIG_OLD=y\n", "CONFIG_OLD=y\n", [], [], []),
        ("CONFIG_OLD=y\n", "", ["OLD"], [], []),  # it is there, and did not become it
        ("CONFIG_GONE=y\n", "", [], ["GONE"], []),
        ("# CONFIG_GONE is not set\n", "", [], [], []),
        ("CONFIG_NEEDED=y\n", "", ["NEEDED"], [], []),  # gone, and not to be done without
        ("CONFIG_OLDD=y\n", "", [], [], ["OLDD"]),
        ("# CONFIG_OLDD is not set\n", "", [], [], ["OLDD"]),  # a typo turns nothing off
        ("CONFIG_NEW=y\n", "CONFIG_NEW=y\n", [], [], []),  # newer than all that we know
        ("CONFIG_OLD=y\nCONFIG_GONE=m\nCONFIG_X=y\n", "", ["OLD"], ["GONE"], ["X"]),
        ("CONFIG_NEW=y\nCONFIG_RENAMED=y\n", "CONFIG_NEW=y\n", [], ["RENAMED"], []),
        ("CONFIG_NEW=y\nCONFIG_RENAMED=y\n", "", ["NEW", "RENAMED"], [], []),
    ],
)
def test_what_becomes_of_what_is_requested(
    requested: str, final: str, lost: list[str], absent: list[str], unknown: list[str]
) -> None:
    known = {"OLD", "GONE", "NEEDED", "LIVEPATCH", "RENAMED"}
    needed = kconfig.required(["# required: NEEDED\n# required: RENAMED|NEW\n"])
    found = kconfig.become(requested, final, known, needed, lambda: kconfigtree.defined(TREE))
    assert [each.name for each in found.lost] == lost
    assert (list(found.absent), list(found.unknown)) == (absent, unknown)


def test_a_tree_is_read_only_where_it_decides() -> None:
    def never() -> frozenset[str]:
        raise AssertionError("a gigabyte is walked through")

    text = "CONFIG_OLD=y\n# CONFIG_GONE is not set\n"
    assert not kconfig.become(text, "CONFIG_OLD=y\n", {"OLD", "GONE"}, frozenset(), never).lost


def test_every_option_of_ours_exists_in_some_kernel() -> None:
    place = catalog.data_dir("kernel-config")
    known = knownoptions.known()
    assert len(known) > 20_000
    for path in sorted(place.glob("*.config")):
        asked = kconfig.parse(path.read_text())
        assert asked.keys() <= known, path
    base = (place / "base.config").read_text()
    needed = kconfig.required([base])
    assert {"LIVEPATCH"} in needed and frozenset().union(*needed) <= kconfig.parse(base).keys()


# --- what is requested of one compiler's kernels only --------------------------------------------


def test_what_is_for_another_compiler_is_not_requested() -> None:
    text = "# gcc only: A B\n# llvm only: C\n# tcc only: D\nCONFIG_A=y\nCONFIG_C=y\nCONFIG_D=y\n"
    assert kconfig.foreign([text], "llvm") == {"A", "B"}
    assert kconfig.foreign([text, "CONFIG_A=y\n"], "gcc") == {"C"}


@pytest.mark.parametrize("arch", arches().values(), ids=lambda arch: arch.name)
def test_ours_request_what_they_say_is_for_one_compiler(arch: Arch) -> None:
    text = catalog.fragment(catalog.arch_file(arch.name)).read_text()
    for family, name in toolchain.FAMILIES.items():
        asked = kconfig.parse(configuration(replace(arch, toolchain=name))).keys()
        left_out = kconfig.foreign([text], family)
        assert left_out <= kconfig.parse(text).keys() - frozenset().union(*kconfig.required([text]))
        assert not left_out & asked and kconfig.parse(text).keys() - left_out <= asked

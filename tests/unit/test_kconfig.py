# SPDX-License-Identifier: GPL-2.0-only
"""Merging fragments, and noticing what a `.config` lost of them."""

from __future__ import annotations

import pytest

from orchestrator.build import kconfig
from orchestrator.build.kconfig import LostOption
from orchestrator.catalog import arches, data_dir

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
"""


def test_a_later_fragment_wins_and_each_option_stands_once() -> None:
    merged = kconfig.merge(["CONFIG_A=y\nCONFIG_B=m\n", "# why\n# CONFIG_A is not set\nCONFIG_C=4"])
    assert merged == "# CONFIG_A is not set\nCONFIG_B=m\nCONFIG_C=4\n"


def test_a_line_that_is_no_option_is_named() -> None:
    with pytest.raises(ValueError, match="line 2 is not a Kconfig option: CONFIG_B y"):
        kconfig.merge(["CONFIG_A=y\nCONFIG_B y\n"])


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


def test_the_unmet_dependency_is_named() -> None:
    final = "CONFIG_DYNAMIC_FTRACE_WITH_REGS=y\n"
    lost = kconfig.lost("CONFIG_LIVEPATCH=y\nCONFIG_NONESUCH=y\n", final)
    first, second = kconfig.explain(lost, lambda: [KCONFIG], final).splitlines()
    assert first.startswith("CONFIG_LIVEPATCH=y became n: depends on DYNAMIC_FTRACE_WITH_REGS ||")
    assert first.endswith("depends on MODULES; not set: MODULES")
    assert "nothing" not in first and "NOT_MINE" not in first
    assert second == "CONFIG_NONESUCH=y became n: this kernel has no such option"


@pytest.mark.parametrize("name", sorted(arches()))
def test_our_fragments_merge_and_do_not_contradict_one_another(name: str) -> None:
    base = kconfig.parse((data_dir("kernel-config") / "base.config").read_text())
    own = kconfig.parse((data_dir("kernel-config") / f"{name}.config").read_text())
    assert base["LIVEPATCH"] == "y" and own
    # What all have, one may lack, and says so.
    assert all(own[name] == "n" for name in set(base) & set(own))

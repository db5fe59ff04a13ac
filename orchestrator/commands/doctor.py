# SPDX-License-Identifier: GPL-2.0-only
"""`klp-e2e doctor`: what this host lacks."""

from __future__ import annotations

from orchestrator import doctor as hosts
from orchestrator.cli import options, session
from orchestrator.cli.arguments import ArchOption, ToolchainOption
from orchestrator.cli.program import EXAMPLE, app, guarded
from orchestrator.errors import Exit
from orchestrator.report.terminal import tell


@app.command(epilog=EXAMPLE + "klp-e2e doctor --arch s390x")
@guarded
def doctor(arch: ArchOption = None, toolchain: ToolchainOption = None) -> Exit:
    """Say what this host lacks. Prints the one line that installs it."""
    chosen = [options.with_toolchain(each, toolchain) for each in options.arches(arch or ())]
    needs = session.host_needs(chosen)
    for line in session.from_elsewhere(chosen):
        tell(line)
    lacking = hosts.missing(needs)
    for need in lacking:
        tell(f"missing: {need.what} ({need.package})")
    if lacking:
        tell(f"\n{hosts.install_line(needs)}")
        return Exit.HARNESS
    tell(f"nothing is missing ({len(needs)} things looked for)")
    return Exit.GOOD

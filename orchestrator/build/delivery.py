# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's configuration asks of a module file beyond being one: a signature, a packing.

A signature goes behind the finished module, after all that is done to it (scripts/sign-file.c); it
is made with the key that the kernel's own build made. Packing is for the way into the guest: what
lies on the host is read here.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable

from orchestrator.elf import reader
from orchestrator.elf.klpformat import SIGNATURE
from orchestrator.errors import BuildError
from orchestrator.host import process
from orchestrator.host.rundir import run_dir
from orchestrator.host.tools import building
from orchestrator.nouns import Kernel

KEYS = (
    "certs/signing_key.pem",
    "certs/signing_key.x509",
)  # in the tree that modules are built against
_SIGN = "scripts/sign-file"


def signed(kernel: Kernel, data: bytes, name: str) -> bytes:
    """The module with a signature, where the kernel looks for one. Somebody else's gives way to it:
    the kernel was made here and knows the key of its own build, and rightly refuses any other.

    Raises BuildError when it cannot be signed.
    """
    chosen = _options(kernel)
    if chosen.get("MODULE_SIG") != "y":
        return data
    if data.endswith(SIGNATURE):
        data = data[: len(data) - len(reader.read(data, name).trailing)]
    tree = kernel.build_tree
    key, certificate = (tree / each for each in KEYS)
    digest = chosen.get("MODULE_SIG_HASH", "").strip('"')
    with run_dir("signing") as scratch:
        module = scratch / "module.ko"
        module.write_bytes(data)
        try:
            process.run(
                building([str(tree / _SIGN), digest, str(key), str(certificate), str(module)])
            )
        except process.CommandFailed as failed:
            raise BuildError(
                f"{name} cannot be signed for {kernel.arch}: {failed}",
                hint=f"is {key} there? It is made with a kernel of CONFIG_MODULE_SIG",
            ) from failed
        return module.read_bytes()


def packing(kernel: Kernel) -> Callable[[bytes], bytes]:
    """What a module goes through on its way into a guest of this kernel: it is compressed where the
    kernel unpacks it itself. The agent sees by the file that it is (images/guest/agent.c)."""
    chosen = _options(kernel)
    packs = chosen.get("MODULE_DECOMPRESS") == chosen.get("MODULE_COMPRESS_GZIP") == "y"
    return (lambda data: gzip.compress(data, mtime=0)) if packs else lambda data: data


_OPTION = re.compile(r"^CONFIG_(MODULE_\w+)=(.*)$", re.MULTILINE)


def _options(kernel: Kernel) -> dict[str, str]:
    """Those of its final configuration that are about module files."""
    return dict(_OPTION.findall(kernel.config.read_text(errors="replace")))

# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel asks of a module file, by its configuration: against a sign-file of our own."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from elf_samples import livepatch
from samples import a_kernel

from orchestrator.build import delivery, testtree
from orchestrator.elf.writer import write
from orchestrator.errors import BuildError
from orchestrator.nouns import Kernel

END = b"~Module signature appended~\n"
SIGN = """#!/bin/sh
# HASH KEY CERTIFICATE MODULE
{ printf 'signed %s by ' "$1"; cat "$2" "$3"; echo '~Module signature appended~'; } >> "$4"
"""


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    tree = tmp_path / "build"
    (tree / "scripts").mkdir(parents=True)
    (tree / "scripts/sign-file").write_text(SIGN)
    (tree / "scripts/sign-file").chmod(0o755)
    for name in delivery.KEYS:
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(Path(name).suffix)
    return a_kernel("x", tmp_path, build_tree=tree)


def configured(kernel: Kernel, *lines: str) -> Kernel:
    kernel.config.write_text("".join(f"{line}\n" for line in lines))
    return kernel


SIGNING = ("CONFIG_MODULE_SIG=y", 'CONFIG_MODULE_SIG_HASH="sha256"')


def test_a_module_is_signed_last_with_the_key_of_the_kernel_s_build(kernel: Kernel) -> None:
    made = delivery.signed(configured(kernel, *SIGNING), b"ELF", "m.ko")
    assert made == b"ELFsigned sha256 by .pem.x509" + END


def test_somebody_else_s_signature_gives_way(kernel: Kernel) -> None:
    configured(kernel, *SIGNING)
    module = write(livepatch())
    ours = delivery.signed(kernel, module, "m.ko")
    assert ours == module + b"signed sha256 by .pem.x509" + END
    assert delivery.signed(kernel, module + b"by another key" + END, "m.ko") == ours
    assert delivery.signed(kernel, ours, "m.ko") == ours
    theirs = module + b"by another key" + END
    assert delivery.signed(configured(kernel), theirs, "m.ko") == theirs, "nobody looks at it"


def test_where_nobody_looks_for_a_signature_there_is_none(kernel: Kernel) -> None:
    for lines in ((), ("# CONFIG_MODULE_SIG is not set",), ("CONFIG_MODULE_SIG_FORMAT=y",)):
        assert delivery.signed(configured(kernel, *lines), b"ELF", "m.ko") == b"ELF"


def test_a_signature_that_cannot_be_made_is_told(kernel: Kernel) -> None:
    configured(kernel, *SIGNING)
    (kernel.build_tree / delivery.KEYS[0]).unlink()
    (kernel.build_tree / "scripts/sign-file").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(BuildError, match=r"m\.ko cannot be signed for x") as caught:
        delivery.signed(kernel, b"ELF", "m.ko")
    assert "signing_key.pem" in caught.value.hint


def test_the_kernel_s_own_tests_are_built_again_for_a_kernel_with_another_key(
    kernel: Kernel,
) -> None:
    before = testtree.key(kernel)
    assert testtree.key(kernel) == before
    (kernel.build_tree / delivery.KEYS[0]).write_text("another")
    assert testtree.key(kernel) != before
    for name in delivery.KEYS:
        (kernel.build_tree / name).unlink()
    assert testtree.key(kernel) != before


def test_a_module_is_compressed_for_a_kernel_that_unpacks_it(kernel: Kernel) -> None:
    both = ("CONFIG_MODULE_COMPRESS_GZIP=y", "CONFIG_MODULE_DECOMPRESS=y")
    made = delivery.packing(configured(kernel, *both))(b"ELF")
    assert made[:2] == b"\x1f\x8b", "by which the agent tells it"
    assert made[3] == 0, "no name in it: the kernel's decompressor would have to skip it"
    assert gzip.decompress(made) == b"ELF"
    for only in both:
        assert delivery.packing(configured(kernel, only))(b"ELF") == b"ELF"

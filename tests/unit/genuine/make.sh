#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Makes a livepatch as the kernel's own scripts/livepatch/klp-build does, of two small C files and
# without a kernel. SOURCE is a kernel tree of 6.19 or later, whose tools/objtool has been built.
#
#	./make.sh SOURCE OUTPUT.ko	(x86_64; needs gcc, ld; objtool needs libelf-dev, libxxhash-dev)
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
objtool=$1/tools/objtool/objtool lds=$1/scripts/module.lds.S out=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cd "$work"
flags='-O2 -ffunction-sections -fdata-sections -fno-pic -mcmodel=kernel -fcf-protection=none -fno-asynchronous-unwind-tables'
mkdir original patched
# shellcheck disable=SC2086  # several words
{
	gcc $flags -c "$here/target.c" -o original/klp_target.o
	gcc $flags -DPATCHED -c "$here/target.c" -o patched/klp_target.o
	gcc $flags -c "$here/stub.c" -o stub.o
}
printf '0x00000000\tprintk_like\tvmlinux\tEXPORT_SYMBOL\t\n' >original/Module.symvers
"$objtool" klp checksum original/klp_target.o
"$objtool" klp checksum patched/klp_target.o
(cd original && "$objtool" klp diff klp_target.o ../patched/klp_target.o ../diff.o)
# the linker script without what an architecture adds
sed '/#include/d; /MOD_SEPARATE_CODETAG_SECTIONS/d' "$lds" | cpp -P >module.lds
ld -r -T module.lds -o "$out" diff.o stub.o
"$objtool" klp post-link "$out"

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Makes livepatches as the kernel's own scripts/livepatch/klp-build does, of small C files and without
# a kernel. SOURCE is a kernel tree of 6.19 or later, whose tools/objtool has been built.
#
#	./make.sh SOURCE VERSION	(x86_64; needs gcc, ld; objtool needs libelf-dev, libxxhash-dev)
#
# makes NAME-VERSION.ko here, of each NAME that is linked below.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
objtool=$1/tools/objtool/objtool lds=$1/scripts/module.lds.S version=$2
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cd "$work"
flags='-O2 -ffunction-sections -fdata-sections -fno-pic -mcmodel=kernel -fcf-protection=none -fno-asynchronous-unwind-tables'
printf '0x00000000\t%s\tvmlinux\tEXPORT_SYMBOL\t\n' printk_like core_shown_key >Module.symvers
# the linker script without what an architecture adds
sed '/#include/d; /MOD_SEPARATE_CODETAG_SECTIONS/d' "$lds" | cpp -P >module.lds
# shellcheck disable=SC2086  # several words, here and below
gcc $flags -c "$here/stub.c" -o stub.o

# diff NAME.o FILE FLAGS...: what changes in the object of that name; one group of flags a file
diff() {
	object=$1 file=$2
	shift 2
	for side in original patched; do
		mkdir -p $side
		number=0 parts=
		for group; do
			number=$((number + 1)) parts="$parts $side-$number.o"
			[ $side = original ] || group="$group -DPATCHED"
			# a source file of its own, as a symbol's file is told by its name
			cp "$here/$file" part-$number.c
			gcc $flags $group -c part-$number.c -o $side-$number.o
		done
		ld -r -o $side/$object $parts
		if [ $object = vmlinux.o ]; then
			"$objtool" --link --klp-symids --stackval $side/$object
			ld -e 0 --unresolved-symbols=ignore-all -Ttext=0xffffffff81000000 -o $side/vmlinux $side/$object
		fi
		"$objtool" klp checksum $side/$object
	done
	cp Module.symvers original/
	(cd original && "$objtool" klp diff "$object" "../patched/$object" "../diff-$object")
}

# link NAME: a module of all that has changed
link() {
	ld -r -T module.lds -o "$here/$1-$version.ko" diff-*.o stub.o
	"$objtool" klp post-link "$here/$1-$version.ko"
	rm -r diff-*.o original patched
}

diff klp_target.o target.c -DALONE
link objtool
others='-DKIND=OTHERS -DWHICH=core_other'
diff vmlinux.o special.c -DKIND=TWO_OBJECTS "$others" "${others}_still"
diff klp_target.o special.c '-DKIND=TWO_OBJECTS -DMODULE'
link two-objects
diff vmlinux.o special.c -DKIND=NAMESAKE '-DKIND=NAMESAKE -DSECOND'
link namesake
diff vmlinux.o special.c -DKIND=TABLES "$others" "${others}_still"
link tables
diff vmlinux.o special.c -DKIND=ALTERNATIVE "$others" "${others}_still"
link alternative
# what objtool makes, and no kernel can apply as it is meant
mkdir -p "$here/wrong"
diff klp_target.o special.c '-DKIND=ALTERNATIVE -DMODULE'
link wrong/alternative

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch of klp_target with every kind of reference that a compiler makes to a symbol of another
 * module. The symbols are undefined in the linked module; the converter turns each into a klp
 * symbol, and each reference into a klp relocation. Nothing here may refer to them from __init code
 * or data: that memory is gone when a late target comes.
 */
#include <linux/livepatch.h>
#include "klp_target.h"

/* Static in klp_target. The twins are two symbols each, see sympos in set.toml. */
extern int klp_target_secret;
extern int klp_target_twin;
int klp_target_scale(int n);
int klp_target_twin_call(void);

/*
 * Pointers in data. They are global, because compilers move a static pointer that nobody writes to
 * read-only data, or drops it.
 */
extern int *klp_patch_data_ptr;
int *klp_patch_data_ptr = &klp_target_pair.second;
extern int (*klp_patch_data_fptr)(int);
int (*klp_patch_data_fptr)(int) = klp_target_scale;

/* Pointers in read-only data: .rodata on x86_64, .data.rel.ro on s390x. */
static const int *const klp_patch_ro_ptrs[] = { &klp_target_secret, &klp_target_table[3] };
static int (*const klp_patch_ro_fptrs[])(int) = { klp_target_scale, klp_target_shift };

static int klp_patch_show(char *buffer)
{
	int (*fptr)(int) = klp_target_shift;
	unsigned long one = 1, two = 2;

	/* The address in a register, not a direct call; the index not known to the compiler. */
	OPTIMIZER_HIDE_VAR(fptr);
	OPTIMIZER_HIDE_VAR(one);
	OPTIMIZER_HIDE_VAR(two);
	klp_target_written = 7042;

	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_patch call=%d read=%d secret=%d write=%d fptr=%d index=%d "
			 "hidden=%d member=%d data_ptr=%d data_fptr=%d ro_ptr=%d,%d ro_fptr=%d,%d "
			 "twin=%d twin_call=%d\n",
			 klp_target_scale(6), klp_target_number, klp_target_secret,
			 klp_target_read_written(), fptr(77), klp_target_table[two],
			 klp_target_hidden, klp_target_pair.second + 1,
			 *klp_patch_data_ptr, klp_patch_data_fptr(8),
			 *klp_patch_ro_ptrs[one - 1], *klp_patch_ro_ptrs[one],
			 klp_patch_ro_fptrs[one - 1](9), klp_patch_ro_fptrs[one](10),
			 klp_target_twin, klp_target_twin_call());
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_target_show", .new_func = klp_patch_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_patch_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_patch_init);

static void __exit klp_patch_exit(void)
{
}
module_exit(klp_patch_exit);

MODULE_DESCRIPTION("klp-e2e: every kind of klp relocation into one target");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

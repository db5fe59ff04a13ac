// SPDX-License-Identifier: GPL-2.0-only
/* The livepatch of a target whose init can be told to fail. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_init_target */
extern int klp_init_number;
extern int klp_init_written;
int klp_init_scale(int n);
int klp_init_shift(int n);
int klp_init_read_written(void);

/* A pointer in data; global, or gcc would move it to read-only data. */
extern int *klp_init_data_ptr;
int *klp_init_data_ptr = &klp_init_number;

static int (*const klp_init_fptrs[])(int) = { klp_init_scale, klp_init_shift };

static int klp_init_patched_show(char *buffer)
{
	unsigned long one = 1;

	OPTIMIZER_HIDE_VAR(one);
	klp_init_written = 8181;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_init_patch call=%d read=%d write=%d data_ptr=%d ro_fptr=%d,%d\n",
			 klp_init_scale(4), klp_init_number, klp_init_read_written(),
			 *klp_init_data_ptr, klp_init_fptrs[one - 1](5), klp_init_fptrs[one](6));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_init_show", .new_func = klp_init_patched_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_init_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_init_patch_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_init_patch_init);

static void __exit klp_init_patch_exit(void)
{
}
module_exit(klp_init_patch_exit);

MODULE_DESCRIPTION("klp-e2e: the livepatch of a target whose init can be told to fail");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

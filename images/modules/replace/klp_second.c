// SPDX-License-Identifier: GPL-2.0-only
/* One of two livepatches with .replace: it takes the place of every other livepatch. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_replaced */
extern int klp_replaced_number;
extern int klp_replaced_written;
int klp_replaced_scale(int n);
int klp_replaced_shift(int n);
int klp_replaced_read_written(void);

/* A pointer in data; global, or gcc would move it to read-only data. */
extern int *klp_second_data_ptr;
int *klp_second_data_ptr = &klp_replaced_number;

static int (*const klp_second_fptrs[])(int) = { klp_replaced_scale, klp_replaced_shift };

static int klp_second_show(char *buffer)
{
	unsigned long one = 1;

	OPTIMIZER_HIDE_VAR(one);
	klp_replaced_written = 2323;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_second call=%d read=%d write=%d data_ptr=%d ro_fptr=%d,%d\n",
			 klp_replaced_scale(31), klp_replaced_number,
			 klp_replaced_read_written(), *klp_second_data_ptr,
			 klp_second_fptrs[one - 1](32), klp_second_fptrs[one](33));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_replaced_show", .new_func = klp_second_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_replaced", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init klp_second_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_second_init);

static void __exit klp_second_exit(void)
{
}
module_exit(klp_second_exit);

MODULE_DESCRIPTION("klp-e2e: one of two livepatches that replace each other");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

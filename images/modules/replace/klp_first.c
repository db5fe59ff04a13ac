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
extern int *klp_first_data_ptr;
int *klp_first_data_ptr = &klp_replaced_number;

static int (*const klp_first_fptrs[])(int) = { klp_replaced_scale, klp_replaced_shift };

static int klp_first_show(char *buffer)
{
	unsigned long one = 1;

	OPTIMIZER_HIDE_VAR(one);
	klp_replaced_written = 1212;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_first call=%d read=%d write=%d data_ptr=%d ro_fptr=%d,%d\n",
			 klp_replaced_scale(21), klp_replaced_number,
			 klp_replaced_read_written(), *klp_first_data_ptr,
			 klp_first_fptrs[one - 1](22), klp_first_fptrs[one](23));
}

static int klp_first_aside(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_first read=%d call=%d\n",
			 klp_replaced_number + 1, klp_replaced_scale(50));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_replaced_show", .new_func = klp_first_show },
	{ .old_name = "klp_replaced_aside", .new_func = klp_first_aside },
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

static int __init klp_first_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_first_init);

static void __exit klp_first_exit(void)
{
}
module_exit(klp_first_exit);

MODULE_DESCRIPTION("klp-e2e: one of two livepatches that replace each other");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

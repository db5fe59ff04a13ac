// SPDX-License-Identifier: GPL-2.0-only
/*
 * It names the same function as the first of its name: old_sympos is 1. The one that is replaced is
 * the same, so that neither a nop is needed for it nor may sysfs see two of them.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_named */
extern int klp_named_number;
int klp_named_scale(int n);

static int klp_by_place_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_by_place read=%d call=%d\n",
			 klp_named_number, klp_named_scale(8));
}

static int klp_by_place_aside(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_by_place read=%d call=%d\n",
			 klp_named_number, klp_named_scale(9));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_named_show", .old_sympos = 1, .new_func = klp_by_place_show },
	{ .old_name = "klp_named_aside", .old_sympos = 1, .new_func = klp_by_place_aside },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_named", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init klp_by_place_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_by_place_init);

static void __exit klp_by_place_exit(void)
{
}
module_exit(klp_by_place_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch of functions as the first of their names");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: GPL-2.0-only
/* It names the function as one that is unique: old_sympos is 0. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_named */
extern int klp_named_number;
int klp_named_scale(int n);

static int klp_by_name_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_by_name read=%d call=%d\n",
			 klp_named_number, klp_named_scale(7));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_named_show", .new_func = klp_by_name_show },
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

static int __init klp_by_name_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_by_name_init);

static void __exit klp_by_name_exit(void)
{
}
module_exit(klp_by_name_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch of a function by its unique name");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

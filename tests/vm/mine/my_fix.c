// SPDX-License-Identifier: GPL-2.0-only
#include <linux/kernel.h>
#include <linux/livepatch.h>
#include <linux/module.h>

/* Of my_target, which does not export it: this becomes a klp relocation. */
extern int my_limit;

static int my_fixed_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "limit=%d\n", my_limit);
}

static struct klp_func funcs[] = {
	{ .old_name = "my_show", .new_func = my_fixed_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "my_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init my_fix_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(my_fix_init);

static void __exit my_fix_exit(void)
{
}
module_exit(my_fix_exit);

MODULE_DESCRIPTION("the repair");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

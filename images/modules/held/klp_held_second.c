// SPDX-License-Identifier: GPL-2.0-only
/* Leaves klp_held_two alone: during the transition it is kept from klp_held_first by a nop. */
#include <linux/livepatch.h>
#include "klp_held.h"

static int klp_held_second_one(void)
{
	return 2;
}

static void klp_held_second_sleep(void)
{
	klp_held_stay(2, 0);
	barrier();
}

static int klp_held_second_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_held_second one=%d two=%d mixed=%d\n",
			 klp_held_one(), klp_held_two(), klp_held_mixed());
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_held_one", .new_func = klp_held_second_one },
	{ .old_name = "klp_held_sleep", .new_func = klp_held_second_sleep },
	{ .old_name = "klp_held_show", .new_func = klp_held_second_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_held", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init klp_held_second_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_held_second_init);

static void __exit klp_held_second_exit(void)
{
}
module_exit(klp_held_second_exit);

MODULE_DESCRIPTION("klp-e2e: one of two livepatches that replace each other while a task sleeps");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

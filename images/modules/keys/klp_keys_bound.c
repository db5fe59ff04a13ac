// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch that branches on a key that its target exports: the ordinary way, so that the target
 * has to be there first, and cannot go while the livepatch is there.
 */
#include <linux/livepatch.h>
#include "keys.h"

static int klp_keys_bound_patched(char *buffer)
{
	const char *before, *after;
	bool on;

	before = klp_e2e_follows(static_branch_unlikely(&klp_keys_outer_key),
				 static_key_enabled(&klp_keys_outer_key));
	static_branch_inc(&klp_keys_outer_key);
	on = static_branch_unlikely(&klp_keys_outer_key);
	static_branch_dec(&klp_keys_outer_key);
	after = klp_e2e_follows(static_branch_likely(&klp_keys_outer_key),
				static_key_enabled(&klp_keys_outer_key));
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_keys_bound target=%s,on=%d,%s number=%d scale=%d\n",
			 before, on, after, klp_keys_number, klp_keys_scale(3));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_keys_bound", .new_func = klp_keys_bound_patched },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_keys_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_keys_bound_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_keys_bound_init);

static void __exit klp_keys_bound_exit(void)
{
}
module_exit(klp_keys_bound_exit);

MODULE_DESCRIPTION("klp-e2e: a branch on a key that the target exports");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch that branches on a key of the kernel proper that is not exported: with jump labels
 * the entry of their table has a klp relocation, which has to be there before the table is read.
 */
#include <linux/livepatch.h>
#include "keys.h"

/* net/core/dev.c, static: whether any device has a program that looks at all packets. None has. */
extern struct static_key_false generic_xdp_needed_key;

KLP_E2E_SWITCH(generic_xdp_needed_key);

/* Not in line: a second entry of the table is not needed, and the kernel would sort them. */
static noinline bool klp_keys_hidden_branch(void)
{
	return static_branch_unlikely(&generic_xdp_needed_key);
}

static int klp_keys_hidden_patched(char *buffer)
{
	const char *before, *after;
	bool on;

	before = klp_e2e_follows(klp_keys_hidden_branch(),
				 static_key_enabled(&generic_xdp_needed_key));
	static_branch_inc(&generic_xdp_needed_key);
	on = klp_keys_hidden_branch();
	static_branch_dec(&generic_xdp_needed_key);
	after = klp_e2e_follows(klp_keys_hidden_branch(),
				static_key_enabled(&generic_xdp_needed_key));
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_keys_hidden vmlinux=%s,on=%d,%s number=%d scale=%d\n",
			 before, on, after, klp_keys_number, klp_keys_scale(3));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_keys_hidden", .new_func = klp_keys_hidden_patched },
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

static int __init klp_keys_hidden_init(void)
{
	int err = klp_enable_patch(&patch);

	if (err)
		klp_e2e_switch_off();
	return err;
}
module_init(klp_keys_hidden_init);

static void __exit klp_keys_hidden_exit(void)
{
	klp_e2e_switch_off();
}
module_exit(klp_keys_hidden_exit);

MODULE_DESCRIPTION("klp-e2e: a branch on a key of the kernel proper that is not exported");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

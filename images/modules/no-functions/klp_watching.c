// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch whose only object has no functions. It must be told of the object all the same, and
 * its klp relocations must be applied before it is, to a module that is loaded and that is not.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_quiet */
extern int klp_quiet_number;
int klp_quiet_scale(int n);

/* A pointer in data; global, or gcc would move it to read-only data. */
extern int *klp_watching_data_ptr;
int *klp_watching_data_ptr = &klp_quiet_number;

KLP_E2E_CALLBACKS(klp_watching, calls,
		  klp_quiet_scale(klp_quiet_number) + *klp_watching_data_ptr, 0);

static struct klp_func none[] = {
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_quiet",
		.funcs = none,
		.callbacks = KLP_E2E_CALLBACKS_OF(klp_watching),
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_watching_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_watching_init);

static void __exit klp_watching_exit(void)
{
}
module_exit(klp_watching_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch of an object of which it replaces no function");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

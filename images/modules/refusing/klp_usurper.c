// SPDX-License-Identifier: GPL-2.0-only
/* A livepatch that takes the place of every other, unless it is told to fail. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_shared */
extern int klp_shared_number;
extern int klp_shared_written;
int klp_shared_read_written(void);

static int fail_pre_patch;
module_param(fail_pre_patch, int, 0644);
MODULE_PARM_DESC(fail_pre_patch, "errno, positive, that pre_patch fails with; 0: it does not fail");

KLP_E2E_CALLBACKS(klp_usurper, calls, klp_shared_number, -fail_pre_patch);

static int klp_usurper_show(char *buffer)
{
	klp_shared_written = 3030;
	return scnprintf(buffer, PAGE_SIZE, "version=klp_usurper read=%d write=%d\n",
			 klp_shared_number, klp_shared_read_written());
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_shared_show", .new_func = klp_usurper_show },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_shared",
		.funcs = funcs,
		.callbacks = KLP_E2E_CALLBACKS_OF(klp_usurper),
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

static int __init klp_usurper_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_usurper_init);

static void __exit klp_usurper_exit(void)
{
}
module_exit(klp_usurper_exit);

MODULE_DESCRIPTION("klp-e2e: a replacing livepatch that can be told to fail");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

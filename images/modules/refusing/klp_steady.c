// SPDX-License-Identifier: GPL-2.0-only
/* A livepatch that refuses nothing, and has to bear what others refuse. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_shared */
extern int klp_shared_number;
extern int klp_shared_written;
int klp_shared_read_written(void);

KLP_E2E_CALLBACKS(klp_steady, calls, klp_shared_number, 0);

static int klp_steady_show(char *buffer)
{
	klp_shared_written = 1010;
	return scnprintf(buffer, PAGE_SIZE, "version=klp_steady read=%d write=%d\n",
			 klp_shared_number, klp_shared_read_written());
}

static int klp_steady_twin(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_steady twin=2 read=%d\n",
			 klp_shared_number + 1);
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_shared_show", .new_func = klp_steady_show },
	{ .old_name = "klp_shared_twin", .old_sympos = 2, .new_func = klp_steady_twin },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_shared",
		.funcs = funcs,
		.callbacks = KLP_E2E_CALLBACKS_OF(klp_steady),
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_steady_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_steady_init);

static void __exit klp_steady_exit(void)
{
}
module_exit(klp_steady_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch beside others that refuse their target");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

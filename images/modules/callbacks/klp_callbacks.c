// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch with all four callbacks and klp relocations. When pre_patch fails, the relocations
 * have been applied already, and the target is refused; the next attempt must find them clear.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_callbacks_target */
extern int klp_callbacks_number;
extern int klp_callbacks_written;
int klp_callbacks_scale(int n);
int klp_callbacks_shift(int n);
int klp_callbacks_read_written(void);

static int fail_pre_patch;
module_param(fail_pre_patch, int, 0644);
MODULE_PARM_DESC(fail_pre_patch, "errno, positive, that pre_patch fails with; 0: it does not fail");

KLP_E2E_CALLBACKS(klp_callbacks, calls, klp_callbacks_number, -fail_pre_patch);

/* A pointer in data; global, or gcc would move it to read-only data. */
extern int *klp_callbacks_data_ptr;
int *klp_callbacks_data_ptr = &klp_callbacks_number;

static int (*const klp_callbacks_fptrs[])(int) = { klp_callbacks_scale, klp_callbacks_shift };

static int klp_callbacks_patched_show(char *buffer)
{
	unsigned long one = 1;

	OPTIMIZER_HIDE_VAR(one);
	klp_callbacks_written = 7171;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_callbacks call=%d read=%d write=%d data_ptr=%d ro_fptr=%d,%d\n",
			 klp_callbacks_scale(4), klp_callbacks_number,
			 klp_callbacks_read_written(), *klp_callbacks_data_ptr,
			 klp_callbacks_fptrs[one - 1](5), klp_callbacks_fptrs[one](6));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_callbacks_show", .new_func = klp_callbacks_patched_show },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_callbacks_target",
		.funcs = funcs,
		.callbacks = KLP_E2E_CALLBACKS_OF(klp_callbacks),
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_callbacks_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_callbacks_init);

static void __exit klp_callbacks_exit(void)
{
}
module_exit(klp_callbacks_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch whose pre_patch callback can be told to fail");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

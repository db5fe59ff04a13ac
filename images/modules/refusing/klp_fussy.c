// SPDX-License-Identifier: GPL-2.0-only
/* A livepatch of two objects, each of which it can be told to refuse. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_shared */
extern int klp_shared_number;
extern int klp_shared_written;
int klp_shared_read_written(void);

/* Of klp_shared_more */
extern int klp_shared_more_number;
int klp_shared_more_scale(int n);

static int fail_pre_patch;
module_param(fail_pre_patch, int, 0644);
MODULE_PARM_DESC(fail_pre_patch, "errno, positive, that pre_patch of klp_shared fails with");

static int fail_pre_patch_more;
module_param(fail_pre_patch_more, int, 0644);
MODULE_PARM_DESC(fail_pre_patch_more, "the same for klp_shared_more");

KLP_E2E_CALLBACKS(klp_fussy, calls, klp_shared_number, -fail_pre_patch);
KLP_E2E_CALLBACKS(klp_fussy_more, calls_more, klp_shared_more_number, -fail_pre_patch_more);

static int klp_fussy_show(char *buffer)
{
	klp_shared_written = 2020;
	return scnprintf(buffer, PAGE_SIZE, "version=klp_fussy read=%d write=%d\n",
			 klp_shared_number, klp_shared_read_written());
}

static int klp_fussy_twin(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_fussy twin=1 read=%d\n",
			 klp_shared_number + 2);
}

static int klp_fussy_more_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_fussy call=%d read=%d\n",
			 klp_shared_more_scale(3), klp_shared_more_number);
}

static struct klp_func shared_funcs[] = {
	{ .old_name = "klp_shared_show", .new_func = klp_fussy_show },
	{ .old_name = "klp_shared_twin", .old_sympos = 1, .new_func = klp_fussy_twin },
	{ }
};

static struct klp_func more_funcs[] = {
	{ .old_name = "klp_shared_more_show", .new_func = klp_fussy_more_show },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_shared",
		.funcs = shared_funcs,
		.callbacks = KLP_E2E_CALLBACKS_OF(klp_fussy),
	},
	{
		.name = "klp_shared_more",
		.funcs = more_funcs,
		.callbacks = KLP_E2E_CALLBACKS_OF(klp_fussy_more),
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_fussy_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_fussy_init);

static void __exit klp_fussy_exit(void)
{
}
module_exit(klp_fussy_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch that can be told to refuse one of its two targets");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

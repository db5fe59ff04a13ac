// SPDX-License-Identifier: GPL-2.0-only
#include <linux/livepatch.h>
#include "../klp_e2e.h"

extern int klp_near_number;	/* klp_near's */
extern int klp_far_secret;	/* klp_far's */

static int klp_near_patch_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_near_patch near=%d far=%d\n",
			 READ_ONCE(klp_near_number), READ_ONCE(klp_far_secret));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_near_show", .new_func = klp_near_patch_show, },
	{ },
};

static struct klp_object objs[] = {
	{ .name = "klp_near", .funcs = funcs, },
	{ },
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_near_patch_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_near_patch_init);

static void __exit klp_near_patch_exit(void)
{
}
module_exit(klp_near_patch_exit);

MODULE_DESCRIPTION("klp-e2e: reads what a third module has");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

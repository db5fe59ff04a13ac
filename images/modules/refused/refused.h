/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A livepatch of klp_strict. What is wrong with one is what it reads beside klp_strict_number,
 * KLP_REFUSED_READ, or the function it wants to replace, KLP_REFUSED_FUNCTION.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_strict */
extern int klp_strict_number;
extern int klp_strict_twin;
/* Of nobody */
extern int klp_strict_nowhere;

static int klp_refused_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=refused read=%d,%d\n", klp_strict_number,
			 KLP_REFUSED_READ);
}

static struct klp_func funcs[] = {
	{ .old_name = KLP_REFUSED_FUNCTION, .new_func = klp_refused_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_strict", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_refused_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_refused_init);

static void __exit klp_refused_exit(void)
{
}
module_exit(klp_refused_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch that the kernel must refuse");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch that lies far from its target. It calls one function of it twice: a stub may serve
 * both calls. What it reads has eight bytes, for which some architectures have a relocation type.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_far_target */
extern long klp_far_weight;
int klp_far_twice(int n);
int klp_far_thrice(int n);

static int klp_far_livepatch_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_far twice=%d thrice=%d again=%d weight=%ld\n",
			 klp_far_twice(991), klp_far_thrice(991), klp_far_twice(991),
			 klp_far_weight);
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_far_show", .new_func = klp_far_livepatch_show },
	{ }
};

static struct klp_object objs[] = {
	{
		.name = "klp_far_target",
		.funcs = funcs,
	},
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_far_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_far_init);

static void __exit klp_far_exit(void)
{
}
module_exit(klp_far_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch that lies far from its target");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: GPL-2.0-only
/* The target of a livepatch that calls two of its functions from far away. */
#include "../klp_e2e.h"

extern long klp_far_weight;
int klp_far_twice(int n);
int klp_far_thrice(int n);

long klp_far_weight = 5150;

klp_e2e_opaque int klp_far_twice(int n)
{
	return 2 * n;
}

klp_e2e_opaque int klp_far_thrice(int n)
{
	return 3 * n;
}

static klp_e2e_opaque int klp_far_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original twice=%d thrice=%d\n",
			 klp_far_twice(19), klp_far_thrice(19));
}
KLP_E2E_PROBE(show, klp_far_show);

static int __init klp_far_target_init(void)
{
	return 0;
}
module_init(klp_far_target_init);

static void __exit klp_far_target_exit(void)
{
}
module_exit(klp_far_target_exit);

MODULE_DESCRIPTION("klp-e2e: the target of a livepatch that lies far away");
MODULE_LICENSE("GPL");

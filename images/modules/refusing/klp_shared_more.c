// SPDX-License-Identifier: GPL-2.0-only
/* A second target, whose name begins with the first one's. */
#include "../klp_e2e.h"

extern int klp_shared_more_number;

int klp_shared_more_number = 828;

static klp_e2e_opaque int klp_shared_more_scale(int n)
{
	return 19 * n;
}

static klp_e2e_opaque int klp_shared_more_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original call=%d read=%d\n",
			 klp_shared_more_scale(2), klp_shared_more_number);
}
KLP_E2E_PROBE(show, klp_shared_more_show);

static int __init klp_shared_more_init(void)
{
	return 0;
}
module_init(klp_shared_more_init);

static void __exit klp_shared_more_exit(void)
{
}
module_exit(klp_shared_more_exit);

MODULE_DESCRIPTION("klp-e2e: the second target of a livepatch that may refuse either");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/* A target of which no function is replaced. */
#include "../klp_e2e.h"

extern int klp_quiet_number;
int klp_quiet_scale(int n);

int klp_quiet_number = 728;

klp_e2e_opaque int klp_quiet_scale(int n)
{
	return 2 * n;
}

static int __init klp_quiet_init(void)
{
	return 0;
}
module_init(klp_quiet_init);

static void __exit klp_quiet_exit(void)
{
}
module_exit(klp_quiet_exit);

MODULE_DESCRIPTION("klp-e2e: the target of a livepatch that replaces nothing of it");
MODULE_LICENSE("GPL");

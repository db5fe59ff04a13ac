// SPDX-License-Identifier: GPL-2.0-only
/* The target of a livepatch whose fields lie at the end of a page. */
#include "../klp_e2e.h"

extern int klp_edge_low;
extern int klp_edge_high;
extern long klp_edge_wide;
int klp_edge_first(int n);
int klp_edge_second(int n);

int klp_edge_low = 606;
int klp_edge_high = 707;
long klp_edge_wide = 808;

klp_e2e_opaque int klp_edge_first(int n)
{
	return 2 * n;
}

klp_e2e_opaque int klp_edge_second(int n)
{
	return 3 * n;
}

static klp_e2e_opaque int klp_edge_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original low=%d high=%d\n",
			 klp_e2e_value(3), klp_e2e_value(4));
}
KLP_E2E_PROBE(show, klp_edge_show);

static int __init klp_edge_target_init(void)
{
	return 0;
}
module_init(klp_edge_target_init);

static void __exit klp_edge_target_exit(void)
{
}
module_exit(klp_edge_target_exit);

MODULE_DESCRIPTION("klp-e2e: the target of a livepatch with fields at the end of a page");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
#include "../klp_e2e.h"

static int klp_near_number __used = 33;

static klp_e2e_opaque int klp_near_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original near=%d\n",
			 READ_ONCE(klp_near_number));
}
KLP_E2E_PROBE(show, klp_near_show);

static int __init klp_near_init(void)
{
	return 0;
}
module_init(klp_near_init);

static void __exit klp_near_exit(void)
{
}
module_exit(klp_near_exit);

MODULE_DESCRIPTION("klp-e2e: a target");
MODULE_LICENSE("GPL");

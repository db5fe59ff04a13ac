// SPDX-License-Identifier: GPL-2.0-only
/* The target of livepatches that say which system states they change. */
#include "../klp_e2e.h"

extern int klp_stateful_number;

int klp_stateful_number = 737;

static klp_e2e_opaque int klp_stateful_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d\n", klp_stateful_number);
}
KLP_E2E_PROBE(show, klp_stateful_show);

static int __init klp_stateful_init(void)
{
	return 0;
}
module_init(klp_stateful_init);

static void __exit klp_stateful_exit(void)
{
}
module_exit(klp_stateful_exit);

MODULE_DESCRIPTION("klp-e2e: the target of livepatches with states");
MODULE_LICENSE("GPL");

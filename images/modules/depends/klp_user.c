// SPDX-License-Identifier: GPL-2.0-only
/* A target that cannot be without klp_base. */
#include "../klp_e2e.h"

extern int klp_user_number;
int klp_base_exported(void);

int klp_user_number = 464;

static klp_e2e_opaque int klp_user_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d base=%d\n", klp_user_number,
			 klp_base_exported());
}
KLP_E2E_PROBE(show, klp_user_show);

static int __init klp_user_init(void)
{
	return 0;
}
module_init(klp_user_init);

static void __exit klp_user_exit(void)
{
}
module_exit(klp_user_exit);

MODULE_DESCRIPTION("klp-e2e: a target that uses another module");
MODULE_LICENSE("GPL");

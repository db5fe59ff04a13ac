// SPDX-License-Identifier: GPL-2.0-only
/* The module that the target uses. It exports one function, and has more to call. */
#include "../klp_e2e.h"

extern int klp_base_number;
int klp_base_exported(void);

int klp_base_number = 353;
static int klp_base_secret __used = 5353;

static klp_e2e_opaque int klp_base_scale(int n)
{
	return 23 * n;
}
KLP_E2E_POINTED_TO(klp_base_scale);

klp_e2e_opaque int klp_base_exported(void)
{
	return klp_base_scale(1) + READ_ONCE(klp_base_secret);
}
EXPORT_SYMBOL_GPL(klp_base_exported);

static int __init klp_base_init(void)
{
	return 0;
}
module_init(klp_base_init);

static void __exit klp_base_exit(void)
{
}
module_exit(klp_base_exit);

MODULE_DESCRIPTION("klp-e2e: a module that a patched module uses");
MODULE_LICENSE("GPL");

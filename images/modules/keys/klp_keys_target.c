// SPDX-License-Identifier: GPL-2.0-only
/* The target of livepatches that branch on static keys of others. It exports one. */
#include "keys.h"

int klp_keys_number = 55;
DEFINE_STATIC_KEY_FALSE(klp_keys_outer_key);
EXPORT_SYMBOL_GPL(klp_keys_outer_key);

KLP_E2E_SWITCH(klp_keys_outer_key);

klp_e2e_opaque int klp_keys_scale(int n)
{
	return 7 * n;
}

static klp_e2e_opaque int klp_keys_hidden(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original number=%d\n",
			 READ_ONCE(klp_keys_number));
}
KLP_E2E_PROBE(hidden, klp_keys_hidden);

static klp_e2e_opaque int klp_keys_bound(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original number=%d\n",
			 READ_ONCE(klp_keys_number));
}
KLP_E2E_PROBE(bound, klp_keys_bound);

static int __init klp_keys_target_init(void)
{
	return 0;
}
module_init(klp_keys_target_init);

static void __exit klp_keys_target_exit(void)
{
	klp_e2e_switch_off();
}
module_exit(klp_keys_target_exit);

MODULE_DESCRIPTION("klp-e2e: the target of livepatches that branch on static keys");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/* The target: a function for each kind of special section that its livepatch brings. */
#include "special.h"

int klp_special_number = KLP_SPECIAL_SALT + 77;
DEFINE_STATIC_KEY_FALSE(klp_special_key);
KLP_E2E_SWITCH(klp_special_key);

klp_e2e_opaque int klp_special_scale(int n)
{
	return 3 * n;
}
KLP_E2E_POINTED_TO(klp_special_scale);

/* Not opaque: a branch on a key needs an optimizing compiler. */
noinline bool klp_special_is_on(void)
{
	return static_branch_unlikely(&klp_special_key);
}

static int klp_special_original(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original number=%d\n",
			 READ_ONCE(klp_special_number));
}

static klp_e2e_opaque int klp_special_branch(char *buffer)
{
	return klp_special_original(buffer);
}
KLP_E2E_PROBE(branch, klp_special_branch);

static klp_e2e_opaque int klp_special_call(char *buffer)
{
	return klp_special_original(buffer);
}
KLP_E2E_PROBE(call, klp_special_call);

static klp_e2e_opaque int klp_special_trace(char *buffer)
{
	return klp_special_original(buffer);
}
KLP_E2E_PROBE(trace, klp_special_trace);

static klp_e2e_opaque int klp_special_fault(char *buffer)
{
	return klp_special_original(buffer);
}
KLP_E2E_PROBE(fault, klp_special_fault);

static klp_e2e_opaque int klp_special_warn(char *buffer)
{
	return klp_special_original(buffer);
}
KLP_E2E_PROBE(warn, klp_special_warn);

static klp_e2e_opaque int klp_special_debug(char *buffer)
{
	return klp_special_original(buffer);
}
KLP_E2E_PROBE(debug, klp_special_debug);

static int __init klp_special_target_init(void)
{
	return 0;
}
module_init(klp_special_target_init);

static void __exit klp_special_target_exit(void)
{
	klp_e2e_switch_off();
}
module_exit(klp_special_target_exit);

MODULE_DESCRIPTION("klp-e2e: the target of a livepatch with special sections");
MODULE_LICENSE("GPL");

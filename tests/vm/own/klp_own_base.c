// SPDX-License-Identifier: GPL-2.0-only
/* Has to be loaded before klp_own_target, which uses what it exports. */
#include "own.h"

int klp_own_base_number = 707;

klp_e2e_opaque int klp_own_base_scale(int n)
{
	return 7 * n;
}
EXPORT_SYMBOL_GPL(klp_own_base_scale);

MODULE_DESCRIPTION("klp-e2e: a module that a target depends on");
MODULE_LICENSE("GPL");

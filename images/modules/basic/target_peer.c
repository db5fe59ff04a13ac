// SPDX-License-Identifier: GPL-2.0-only
/* The target's second file: here live the second symbols of two names. */
#include "klp_target.h"

/* sympos 2 */
static int klp_target_twin __used = KLP_TARGET_SALT + 2002;

/* sympos 2 */
static klp_e2e_opaque int klp_target_twin_call(void)
{
	return 10 * READ_ONCE(klp_target_twin);
}

klp_e2e_opaque int klp_target_twins(void)
{
	return klp_target_twin_call();
}

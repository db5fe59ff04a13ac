// SPDX-License-Identifier: GPL-2.0-only
#include "own.h"

static int klp_own_twin __used = 2002;

static klp_e2e_opaque int klp_own_twin_call(void)
{
	return 10 * READ_ONCE(klp_own_twin);
}

klp_e2e_opaque int klp_own_twins(void)
{
	return klp_own_twin_call();
}

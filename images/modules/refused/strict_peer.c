// SPDX-License-Identifier: GPL-2.0-only
#include "../klp_e2e.h"

int klp_strict_peer(void);

static int klp_strict_twin __used = 2;

klp_e2e_opaque int klp_strict_peer(void)
{
	return READ_ONCE(klp_strict_twin);
}

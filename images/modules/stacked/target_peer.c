// SPDX-License-Identifier: GPL-2.0-only
#include "../klp_e2e.h"
#include "klp_stacked.h"

/* sympos 2 */
static int klp_stacked_twin __used = KLP_STACKED_SALT + 4004;

/* sympos 2 */
static klp_e2e_opaque int klp_stacked_twin_call(int n)
{
	return READ_ONCE(klp_stacked_twin) + n;
}
KLP_E2E_POINTED_TO(klp_stacked_twin_call);

klp_e2e_opaque int klp_stacked_peer_call(int n)
{
	return klp_stacked_twin_call(n);
}
KLP_E2E_POINTED_TO(klp_stacked_peer_call);

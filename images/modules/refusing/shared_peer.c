// SPDX-License-Identifier: GPL-2.0-only
#include "../klp_e2e.h"

extern int klp_shared_number;

/* old_sympos 2 */
static klp_e2e_opaque int klp_shared_twin(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original twin=2 read=%d\n",
			 klp_shared_number);
}
KLP_E2E_PROBE(second_twin, klp_shared_twin);

// SPDX-License-Identifier: GPL-2.0-only
/* The second target, and what takes the memory that the first one left. */
#include "own.h"

int klp_own_other_number = 808;
static int klp_own_other_room[4096] __used = { 1 };

static klp_e2e_opaque int klp_own_other_scale(int n)
{
	return 8 * n;
}

static klp_e2e_opaque int klp_own_other_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original call=%d read=%d\n",
			 klp_own_other_scale(1), klp_own_other_number);
}
KLP_E2E_PROBE(show, klp_own_other_show);

MODULE_DESCRIPTION("klp-e2e: another target with a section for each symbol");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/* One section for each function and each variable: .text.NAME, .data.NAME, .bss.NAME, .rodata.NAME */
#include "own.h"

int klp_own_number = 42;
int klp_own_counter;
const int klp_own_table[4] = { 1, 1789, 3, 4 };
/* The first of two symbols of this name. The second is in target_peer.c. */
static int klp_own_twin __used = 1001;

static klp_e2e_opaque int klp_own_scale(int n)
{
	return 3 * n;
}

static klp_e2e_opaque int klp_own_twin_call(void)
{
	return 10 * READ_ONCE(klp_own_twin);
}

static klp_e2e_opaque int klp_own_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original call=%d read=%d twins=%d,%d base=%d\n",
			 klp_own_scale(5), klp_own_number + klp_own_table[1], klp_own_twin_call(),
			 klp_own_twins(), klp_own_base_scale(6));
}
KLP_E2E_PROBE(show, klp_own_show);

static klp_e2e_opaque int klp_own_aside(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original counter=%d\n", ++klp_own_counter);
}
KLP_E2E_PROBE(aside, klp_own_aside);

MODULE_DESCRIPTION("klp-e2e: a target with a section for each symbol");
MODULE_LICENSE("GPL");

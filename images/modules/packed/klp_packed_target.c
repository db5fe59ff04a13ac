// SPDX-License-Identifier: GPL-2.0-only
/* The target of a livepatch whose pointers to it are not aligned. */
#include "../klp_e2e.h"

extern int klp_packed_half;
extern int klp_packed_byte;

int klp_packed_half = 1313;
int klp_packed_byte = 1717;

static klp_e2e_opaque int klp_packed_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original\n");
}
KLP_E2E_PROBE(show, klp_packed_show);

static int __init klp_packed_target_init(void)
{
	return 0;
}
module_init(klp_packed_target_init);

static void __exit klp_packed_target_exit(void)
{
}
module_exit(klp_packed_target_exit);

MODULE_DESCRIPTION("klp-e2e: the target of a livepatch with pointers that are not aligned");
MODULE_LICENSE("GPL");

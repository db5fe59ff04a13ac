// SPDX-License-Identifier: GPL-2.0-only
/* One of two targets of one livepatch. */
#include "../klp_e2e.h"

extern int klp_target_b_number;
extern int klp_target_b_written;
int klp_target_b_read_written(void);

int klp_target_b_number = 654;
int klp_target_b_written;

static klp_e2e_opaque int klp_target_b_scale(int n)
{
	return 7 * n;
}
KLP_E2E_POINTED_TO(klp_target_b_scale);

klp_e2e_opaque int klp_target_b_read_written(void)
{
	return 2 * klp_target_b_written;
}

static klp_e2e_opaque int klp_target_b_show(char *buffer)
{
	klp_target_b_written = 222;
	return scnprintf(buffer, PAGE_SIZE, "version=original call=%d read=%d write=%d\n",
			 klp_target_b_scale(11), klp_target_b_number,
			 klp_target_b_read_written());
}
KLP_E2E_PROBE(show, klp_target_b_show);

static int __init klp_target_b_init(void)
{
	return 0;
}
module_init(klp_target_b_init);

static void __exit klp_target_b_exit(void)
{
}
module_exit(klp_target_b_exit);

MODULE_DESCRIPTION("klp-e2e: one of two targets of one livepatch");
MODULE_LICENSE("GPL");

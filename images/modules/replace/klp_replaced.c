// SPDX-License-Identifier: GPL-2.0-only
/* The target of two livepatches, each of which replaces every other. */
#include "../klp_e2e.h"

extern int klp_replaced_number;
extern int klp_replaced_written;
int klp_replaced_read_written(void);
int klp_replaced_shift(int n);

int klp_replaced_number = 515;
int klp_replaced_written;

static klp_e2e_opaque int klp_replaced_scale(int n)
{
	return 9 * n;
}
KLP_E2E_POINTED_TO(klp_replaced_scale);

klp_e2e_opaque int klp_replaced_shift(int n)
{
	return 8000 + n;
}
KLP_E2E_POINTED_TO(klp_replaced_shift);

klp_e2e_opaque int klp_replaced_read_written(void)
{
	return 2 * klp_replaced_written;
}

/* Both livepatches have it. */
static klp_e2e_opaque int klp_replaced_show(char *buffer)
{
	klp_replaced_written = 234;
	return scnprintf(buffer, PAGE_SIZE, "version=original call=%d read=%d write=%d\n",
			 klp_replaced_scale(3), klp_replaced_number, klp_replaced_read_written());
}
KLP_E2E_PROBE(show, klp_replaced_show);

/* Only klp_first has it: klp_second brings the original back. */
static klp_e2e_opaque int klp_replaced_aside(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d\n", klp_replaced_number);
}
KLP_E2E_PROBE(aside, klp_replaced_aside);

static int __init klp_replaced_init(void)
{
	return 0;
}
module_init(klp_replaced_init);

static void __exit klp_replaced_exit(void)
{
}
module_exit(klp_replaced_exit);

MODULE_DESCRIPTION("klp-e2e: the target of two livepatches that replace each other");
MODULE_LICENSE("GPL");

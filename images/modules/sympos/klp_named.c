// SPDX-License-Identifier: GPL-2.0-only
/* The target of two livepatches that name its functions differently. Each name is unique. */
#include "../klp_e2e.h"

extern int klp_named_number;
int klp_named_scale(int n);

int klp_named_number = 818;

klp_e2e_opaque int klp_named_scale(int n)
{
	return 11 * n;
}

/* Both livepatches have it. */
static klp_e2e_opaque int klp_named_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d\n", klp_named_number);
}
KLP_E2E_PROBE(show, klp_named_show);

/* Only klp_by_place has it: klp_by_name brings the original back. */
static klp_e2e_opaque int klp_named_aside(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d\n", klp_named_number + 1);
}
KLP_E2E_PROBE(aside, klp_named_aside);

static int __init klp_named_init(void)
{
	return 0;
}
module_init(klp_named_init);

static void __exit klp_named_exit(void)
{
}
module_exit(klp_named_exit);

MODULE_DESCRIPTION("klp-e2e: the target of two livepatches that name its functions differently");
MODULE_LICENSE("GPL");

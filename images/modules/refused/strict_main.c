// SPDX-License-Identifier: GPL-2.0-only
/* The target of livepatches that the kernel must refuse. */
#include "../klp_e2e.h"

extern int klp_strict_number;
int klp_strict_peer(void);

int klp_strict_number = 737;

/* The first of two symbols of this name. The second is in strict_peer.c, and there is no third. */
static int klp_strict_twin __used = 1;

static klp_e2e_opaque int klp_strict_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d twins=%d,%d\n",
			 klp_strict_number, READ_ONCE(klp_strict_twin), klp_strict_peer());
}
KLP_E2E_PROBE(show, klp_strict_show);

static int __init klp_strict_init(void)
{
	return 0;
}
module_init(klp_strict_init);

static void __exit klp_strict_exit(void)
{
}
module_exit(klp_strict_exit);

MODULE_DESCRIPTION("klp-e2e: the target of livepatches that must be refused");
MODULE_LICENSE("GPL");

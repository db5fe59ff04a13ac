// SPDX-License-Identifier: GPL-2.0-only
/* The target of three livepatches. The other target's name begins with this one's. */
#include "../klp_e2e.h"

extern int klp_shared_number;
extern int klp_shared_written;
int klp_shared_read_written(void);

int klp_shared_number = 919;
int klp_shared_written;

klp_e2e_opaque int klp_shared_read_written(void)
{
	return 2 * klp_shared_written;
}

/* All three replace it. */
static klp_e2e_opaque int klp_shared_show(char *buffer)
{
	klp_shared_written = 321;
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d write=%d\n",
			 klp_shared_number, klp_shared_read_written());
}
KLP_E2E_PROBE(show, klp_shared_show);

/* The first of two functions of this name: old_sympos 1. The second is in shared_peer.c. */
static klp_e2e_opaque int klp_shared_twin(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original twin=1 read=%d\n",
			 klp_shared_number);
}
KLP_E2E_PROBE(first_twin, klp_shared_twin);

static int __init klp_shared_init(void)
{
	return 0;
}
module_init(klp_shared_init);

static void __exit klp_shared_exit(void)
{
}
module_exit(klp_shared_exit);

MODULE_DESCRIPTION("klp-e2e: the target of several livepatches, some of which refuse it");
MODULE_LICENSE("GPL");

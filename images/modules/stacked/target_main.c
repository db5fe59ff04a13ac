// SPDX-License-Identifier: GPL-2.0-only
/* The target of two livepatches. */
#include "../klp_e2e.h"
#include "klp_stacked.h"

int klp_stacked_number = KLP_STACKED_SALT + 808;
int klp_stacked_written;
/* Never 0, which would move it to .bss. */
static int klp_stacked_base __used = KLP_STACKED_SALT + 9000;

/* sympos 1; the second is in target_peer.c */
static int klp_stacked_twin __used = KLP_STACKED_SALT + 3003;

/* sympos 1 */
static klp_e2e_opaque int klp_stacked_twin_call(int n)
{
	return READ_ONCE(klp_stacked_twin) + n;
}
KLP_E2E_POINTED_TO(klp_stacked_twin_call);

klp_e2e_opaque int klp_stacked_read_written(void)
{
	return READ_ONCE(klp_stacked_base) - 9000 + 2 * klp_stacked_written;
}

/* Both livepatches replace it. */
static klp_e2e_opaque int klp_stacked_show(char *buffer)
{
	klp_stacked_written = 123;
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d write=%d twins=%d,%d\n",
			 klp_stacked_number, klp_stacked_read_written(),
			 klp_stacked_twin_call(1), klp_stacked_peer_call(2));
}
KLP_E2E_PROBE(show, klp_stacked_show);

/* Only klp_lower replaces it. */
static klp_e2e_opaque int klp_stacked_aside(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original read=%d\n", klp_stacked_number);
}
KLP_E2E_PROBE(aside, klp_stacked_aside);

static int __init klp_stacked_target_init(void)
{
	return 0;
}
module_init(klp_stacked_target_init);

static void __exit klp_stacked_target_exit(void)
{
}
module_exit(klp_stacked_target_exit);

MODULE_DESCRIPTION("klp-e2e: the target of two livepatches");
MODULE_LICENSE("GPL");

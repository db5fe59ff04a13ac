// SPDX-License-Identifier: GPL-2.0-only
/* What the livepatch of klp_near reads, which klp_near itself knows nothing of. */
#include "../klp_e2e.h"

static int klp_far_secret __used = 77;

static int __init klp_far_init(void)
{
	return 0;
}
module_init(klp_far_init);

static void __exit klp_far_exit(void)
{
}
module_exit(klp_far_exit);

MODULE_DESCRIPTION("klp-e2e: holds what another module's livepatch reads");
MODULE_LICENSE("GPL");

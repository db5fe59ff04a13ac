// SPDX-License-Identifier: GPL-2.0-only
/* Takes memory: how much of each kind is added to the .ko (orchestrator/elf/room.py). */
#include <linux/module.h>

static int __init klp_e2e_filler_init(void)
{
	return 0;
}

static void __exit klp_e2e_filler_exit(void)
{
}

module_init(klp_e2e_filler_init);
module_exit(klp_e2e_filler_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("klp-e2e: takes memory");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Takes the memory that a target left, so that it comes back at another address: as many pages of
 * each kind as the smallest target of the set has (orchestrator/build/filler.py).
 */
#include <linux/cache.h>
#include <linux/module.h>
#include <linux/stringify.h>
#include <asm/page.h>

/* What any module has of a kind is less than a page, so one page less than is wanted. */
#define BUT_ONE_PAGE(bytes) (((bytes) - 1) / PAGE_SIZE * PAGE_SIZE)

asm(".pushsection .text\n"
    ".skip ((" __stringify(TEXT) " - 1) >> " __stringify(PAGE_SHIFT) ") << " __stringify(PAGE_SHIFT) "\n"
    ".popsection");

static const char klp_e2e_filler_rodata[BUT_ONE_PAGE(RODATA) + 1] __used = { 1 };
static char klp_e2e_filler_data[BUT_ONE_PAGE(DATA) + 1] __used = { 1 };
#if RO_AFTER_INIT
/* Nothing else of this kind is in here. */
static char klp_e2e_filler_late[BUT_ONE_PAGE(RO_AFTER_INIT) + 1] __ro_after_init __used = { 1 };
#endif

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
MODULE_DESCRIPTION("klp-e2e: takes the memory that a target left");

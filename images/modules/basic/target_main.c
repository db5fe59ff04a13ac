// SPDX-License-Identifier: GPL-2.0-only
/* The module that gets patched: functions and data, static and global, none of them exported. */
#include "klp_target.h"

int klp_target_number = KLP_TARGET_SALT + 42;
int klp_target_written;
int klp_target_hidden = KLP_TARGET_SALT + 6174;
struct klp_target_pair klp_target_pair = {
	.first = KLP_TARGET_SALT + 1729,
	.second = KLP_TARGET_SALT + 2718,
};
const int klp_target_table[4] = {
	KLP_TARGET_SALT + 2003,
	KLP_TARGET_SALT + 3001,
	KLP_TARGET_SALT + 4001,
	KLP_TARGET_SALT + 5003,
};

/* Never 0, which would move it to .bss. */
static int klp_target_base __used = KLP_TARGET_SALT + 9000;
static int klp_target_secret __used = KLP_TARGET_SALT + 4242;
/* The first of two symbols of this name: sympos 1. The second is in target_peer.c. */
static int klp_target_twin __used = KLP_TARGET_SALT + 1001;

static klp_e2e_opaque int klp_target_scale(int n)
{
	return READ_ONCE(klp_target_base) - 9000 + 3 * n;
}
KLP_E2E_POINTED_TO(klp_target_scale);

/* The first of two symbols of this name: sympos 1. */
static klp_e2e_opaque int klp_target_twin_call(void)
{
	return 10 * READ_ONCE(klp_target_twin);
}

klp_e2e_opaque int klp_target_shift(int n)
{
	return READ_ONCE(klp_target_base) + n;
}
KLP_E2E_POINTED_TO(klp_target_shift);

klp_e2e_opaque int klp_target_read_written(void)
{
	return READ_ONCE(klp_target_base) - 9000 + 2 * klp_target_written;
}

static klp_e2e_opaque int klp_target_show(char *buffer)
{
	klp_target_written = 1111;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=original call=%d read=%d secret=%d write=%d twins=%d,%d\n",
			 klp_target_scale(5), klp_target_number, READ_ONCE(klp_target_secret),
			 klp_target_read_written(), klp_target_twin_call(), klp_target_twins());
}
KLP_E2E_PROBE(show, klp_target_show);
KLP_E2E_INIT_PROBE(show, klp_target_show);

static int __init klp_target_init(void)
{
	show_at_init_record();
	return 0;
}
module_init(klp_target_init);

static void __exit klp_target_exit(void)
{
}
module_exit(klp_target_exit);

MODULE_DESCRIPTION("klp-e2e: a module to patch");
MODULE_LICENSE("GPL");

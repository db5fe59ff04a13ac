// SPDX-License-Identifier: GPL-2.0-only
/*
 * A target whose init can be told to fail. By then klp_module_coming() has applied the relocations
 * of its livepatch, and klp_module_going() must undo what it did.
 */
#include "../klp_e2e.h"

/* Added to every value in data; the filler is this module with another salt, see ../basic. */
#ifndef KLP_INIT_SALT
#define KLP_INIT_SALT 0
#endif

extern int klp_init_number;
extern int klp_init_written;
int klp_init_read_written(void);
int klp_init_shift(int n);

int klp_init_number = KLP_INIT_SALT + 717;
int klp_init_written;
/* Never 0, which would move it to .bss. */
static int klp_init_base __used = KLP_INIT_SALT + 8000;

static int fail_init;
module_param(fail_init, int, 0444);
MODULE_PARM_DESC(fail_init, "errno, positive, that init fails with; 0: it does not fail");

static klp_e2e_opaque int klp_init_scale(int n)
{
	return READ_ONCE(klp_init_base) - 8000 + 17 * n;
}
KLP_E2E_POINTED_TO(klp_init_scale);

klp_e2e_opaque int klp_init_shift(int n)
{
	return READ_ONCE(klp_init_base) + n;
}
KLP_E2E_POINTED_TO(klp_init_shift);

klp_e2e_opaque int klp_init_read_written(void)
{
	return READ_ONCE(klp_init_base) - 8000 + 2 * klp_init_written;
}

static klp_e2e_opaque int klp_init_show(char *buffer)
{
	klp_init_written = 456;
	return scnprintf(buffer, PAGE_SIZE, "version=original call=%d read=%d write=%d\n",
			 klp_init_scale(2), klp_init_number, klp_init_read_written());
}
KLP_E2E_PROBE(show, klp_init_show);

static int __init klp_init_target_init(void)
{
	return -fail_init;
}
module_init(klp_init_target_init);

static void __exit klp_init_target_exit(void)
{
}
module_exit(klp_init_target_exit);

MODULE_DESCRIPTION("klp-e2e: a target whose init can be told to fail");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/* The target of a livepatch whose pre_patch callback can refuse it. */
#include "../klp_e2e.h"

/* Added to every value in data; the filler is this module with another salt, see ../basic. */
#ifndef KLP_CALLBACKS_SALT
#define KLP_CALLBACKS_SALT 0
#endif

extern int klp_callbacks_number;
extern int klp_callbacks_written;
int klp_callbacks_read_written(void);
int klp_callbacks_shift(int n);

int klp_callbacks_number = KLP_CALLBACKS_SALT + 616;
int klp_callbacks_written;
/* Never 0, which would move it to .bss. */
static int klp_callbacks_base __used = KLP_CALLBACKS_SALT + 8000;

static klp_e2e_opaque int klp_callbacks_scale(int n)
{
	return READ_ONCE(klp_callbacks_base) - 8000 + 13 * n;
}
KLP_E2E_POINTED_TO(klp_callbacks_scale);

klp_e2e_opaque int klp_callbacks_shift(int n)
{
	return READ_ONCE(klp_callbacks_base) + n;
}
KLP_E2E_POINTED_TO(klp_callbacks_shift);

klp_e2e_opaque int klp_callbacks_read_written(void)
{
	return READ_ONCE(klp_callbacks_base) - 8000 + 2 * klp_callbacks_written;
}

static klp_e2e_opaque int klp_callbacks_show(char *buffer)
{
	klp_callbacks_written = 345;
	return scnprintf(buffer, PAGE_SIZE, "version=original call=%d read=%d write=%d\n",
			 klp_callbacks_scale(2), klp_callbacks_number,
			 klp_callbacks_read_written());
}
KLP_E2E_PROBE(show, klp_callbacks_show);

static int __init klp_callbacks_target_init(void)
{
	return 0;
}
module_init(klp_callbacks_target_init);

static void __exit klp_callbacks_target_exit(void)
{
}
module_exit(klp_callbacks_target_exit);

MODULE_DESCRIPTION("klp-e2e: the target of a livepatch with callbacks");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/* The livepatch that is loaded second in most orders. It uses the second of the twins. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"
#include "klp_stacked.h"

/* Static in klp_stacked_target, two of each: see sympos in set.toml. */
extern int klp_stacked_twin;
int klp_stacked_twin_call(int n);

/* A pointer in data; global, or gcc would move it to read-only data. */
extern int *klp_upper_data_ptr;
int *klp_upper_data_ptr = &klp_stacked_number;

static int (*const klp_upper_fptrs[])(int) = { klp_stacked_twin_call, klp_stacked_peer_call };

static int klp_upper_show(char *buffer)
{
	unsigned long one = 1;

	OPTIMIZER_HIDE_VAR(one);
	klp_stacked_written = 6060;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_upper call=%d read=%d write=%d twin=%d data_ptr=%d ro_fptr=%d,%d\n",
			 klp_stacked_twin_call(40), klp_stacked_number,
			 klp_stacked_read_written(), klp_stacked_twin, *klp_upper_data_ptr,
			 klp_upper_fptrs[one - 1](41), klp_upper_fptrs[one](42));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_stacked_show", .new_func = klp_upper_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_stacked_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_upper_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_upper_init);

static void __exit klp_upper_exit(void)
{
}
module_exit(klp_upper_exit);

MODULE_DESCRIPTION("klp-e2e: one of two livepatches of one function");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

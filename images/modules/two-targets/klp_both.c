// SPDX-License-Identifier: GPL-2.0-only
/*
 * One livepatch, two objects: each one's relocations are applied when that one comes, and neither
 * replacement refers to the other's target, which may be away.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_target_a */
extern int klp_target_a_number;
extern int klp_target_a_written;
int klp_target_a_scale(int n);
int klp_target_a_read_written(void);

/* Of klp_target_b */
extern int klp_target_b_number;
extern int klp_target_b_written;
int klp_target_b_scale(int n);
int klp_target_b_read_written(void);

/* Pointers in data; global, or gcc would move them to read-only data. */
extern int *klp_both_ptr_a, *klp_both_ptr_b;
int *klp_both_ptr_a = &klp_target_a_number;
int *klp_both_ptr_b = &klp_target_b_number;

/* One read-only table with an entry for either object. */
static int (*const klp_both_fptrs[])(int) = { klp_target_a_scale, klp_target_b_scale };

static int klp_both_show_a(char *buffer)
{
	unsigned long a = 0;

	OPTIMIZER_HIDE_VAR(a);
	klp_target_a_written = 3030;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_both call=%d read=%d write=%d data_ptr=%d ro_fptr=%d\n",
			 klp_target_a_scale(12), klp_target_a_number,
			 klp_target_a_read_written(), *klp_both_ptr_a, klp_both_fptrs[a](13));
}

static int klp_both_show_b(char *buffer)
{
	unsigned long b = 1;

	OPTIMIZER_HIDE_VAR(b);
	klp_target_b_written = 4040;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_both call=%d read=%d write=%d data_ptr=%d ro_fptr=%d\n",
			 klp_target_b_scale(12), klp_target_b_number,
			 klp_target_b_read_written(), *klp_both_ptr_b, klp_both_fptrs[b](13));
}

static struct klp_func funcs_a[] = {
	{ .old_name = "klp_target_a_show", .new_func = klp_both_show_a },
	{ }
};

static struct klp_func funcs_b[] = {
	{ .old_name = "klp_target_b_show", .new_func = klp_both_show_b },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_target_a", .funcs = funcs_a },
	{ .name = "klp_target_b", .funcs = funcs_b },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_both_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_both_init);

static void __exit klp_both_exit(void)
{
}
module_exit(klp_both_exit);

MODULE_DESCRIPTION("klp-e2e: one livepatch with two objects");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

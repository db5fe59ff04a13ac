// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch whose code is laid so that one of the fields that are written late is at the end of a
 * page: half of it may be in the next one. There are many of them, so that one can lie across it
 * whatever the code's alignment.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_edge_target */
extern int klp_edge_low;
extern int klp_edge_high;
extern long klp_edge_wide;
int klp_edge_first(int n);
int klp_edge_second(int n);

static int klp_edge_livepatch_show(char *buffer)
{
	int len = scnprintf(buffer, PAGE_SIZE, "version=klp_edge low=%d", READ_ONCE(klp_edge_low));

	len += scnprintf(buffer + len, PAGE_SIZE - len, " high=%d", READ_ONCE(klp_edge_high));
	len += scnprintf(buffer + len, PAGE_SIZE - len, " wide=%ld", READ_ONCE(klp_edge_wide));
	len += scnprintf(buffer + len, PAGE_SIZE - len, " first=%d", klp_edge_first(9));
	return len + scnprintf(buffer + len, PAGE_SIZE - len, " second=%d\n", klp_edge_second(9));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_edge_show", .new_func = klp_edge_livepatch_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_edge_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_edge_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_edge_init);

static void __exit klp_edge_exit(void)
{
}
module_exit(klp_edge_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch with a klp relocation at the end of a page");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

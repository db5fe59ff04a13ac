// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch with pointers to its target in packed structures, as firmware and wire formats have
 * them: one at half a word, one at an odd address. Whoever writes them late has to be able to.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_packed_target */
extern int klp_packed_half;
extern int klp_packed_byte;

struct klp_packed_half {
	char before[2];
	int *where;
} __packed;

struct klp_packed_byte {
	char before[1];
	int *where;
} __packed;

/* Nobody writes them: a compiler that sees what they hold would leave them out. */
static struct klp_packed_half klp_packed_at_half __used __aligned(8) = {
	.where = &klp_packed_half,
};

static struct klp_packed_byte klp_packed_at_byte __used __aligned(8) = {
	.where = &klp_packed_byte,
};

/* What was not written shows; nobody has to die of it. */
static int klp_packed_read(int *where)
{
	return where ? READ_ONCE(*where) : -1;
}

static int klp_packed_livepatch_show(char *buffer)
{
	struct klp_packed_half *half = &klp_packed_at_half;
	struct klp_packed_byte *byte = &klp_packed_at_byte;

	OPTIMIZER_HIDE_VAR(half);
	OPTIMIZER_HIDE_VAR(byte);
	return scnprintf(buffer, PAGE_SIZE, "version=klp_packed half=%d byte=%d\n",
			 klp_packed_read(half->where), klp_packed_read(byte->where));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_packed_show", .new_func = klp_packed_livepatch_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_packed_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_packed_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_packed_init);

static void __exit klp_packed_exit(void)
{
}
module_exit(klp_packed_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch with pointers that are not aligned");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does to the guest what parameter "what" says, at load or when it is written. Each kind of trouble
 * has a function of its own, whose name the kernel's report shows.
 */
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/irqflags.h>
#include <linux/reboot.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "../klp_e2e.h"

/* "show" makes trouble only when the probe is read. */
static bool trouble_in_show;

static klp_e2e_opaque void trouble_warn(void)
{
	WARN_ON(1);
}

static klp_e2e_opaque void trouble_bug(void)
{
	BUG();
}

static klp_e2e_opaque void trouble_oops(void)
{
	int *nowhere = NULL;

	/* A write: address 0 can be read on s390x, the lowcore lies there. */
	OPTIMIZER_HIDE_VAR(nowhere);
	*nowhere = 1;
}

static klp_e2e_opaque void trouble_panic(void)
{
	panic("trouble was asked for");
}

static klp_e2e_opaque void trouble_reboot(void)
{
	emergency_restart();
}

static klp_e2e_opaque void trouble_hang(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static klp_e2e_opaque void trouble_wait(void)
{
	msleep(5000);
}

static klp_e2e_opaque void trouble_taint(void)
{
	add_taint(TAINT_USER, LOCKDEP_STILL_OK);
}

/* A page that nobody will give back, and that no statistics speak of. */
static klp_e2e_opaque void trouble_leak(void)
{
	__get_free_page(GFP_KERNEL);
}

/* The same of kmalloc()'s, like a forgotten kobject. */
static klp_e2e_opaque void trouble_forget(void)
{
	size_t size = PAGE_SIZE;
	void *memory;

	OPTIMIZER_HIDE_VAR(size);
	memory = kmalloc(size, GFP_KERNEL);
	OPTIMIZER_HIDE_VAR(memory);
}

static klp_e2e_opaque void trouble_later(void)
{
	trouble_in_show = true;
}

static int trouble_set(const char *value, const struct kernel_param *kp)
{
	static const struct {
		const char *what;
		void (*make)(void);
	} kinds[] = {
		{ "warn", trouble_warn },	{ "bug", trouble_bug },
		{ "oops", trouble_oops },	{ "panic", trouble_panic },
		{ "reboot", trouble_reboot },	{ "hang", trouble_hang },
		{ "wait", trouble_wait },	{ "taint", trouble_taint },
		{ "show", trouble_later },	{ "leak", trouble_leak },
		{ "forget", trouble_forget },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!sysfs_streq(value, kinds[i].what))
			continue;
		pr_info("trouble: %s begins\n", kinds[i].what);
		msleep(50);	/* the s390x console writes later, by an interrupt */
		kinds[i].make();
		return 0;
	}
	return -EINVAL;
}

static const struct kernel_param_ops trouble_ops = {
	.set = trouble_set,
};
module_param_cb(what, &trouble_ops, NULL, 0200);

static klp_e2e_opaque int trouble_show(char *buffer)
{
	if (trouble_in_show)
		trouble_oops();
	return scnprintf(buffer, PAGE_SIZE, "calm\n");
}
KLP_E2E_PROBE(show, trouble_show);

static int __init trouble_init(void)
{
	return 0;
}
module_init(trouble_init);

static void __exit trouble_exit(void)
{
}
module_exit(trouble_exit);

MODULE_DESCRIPTION("klp-e2e: makes trouble");
MODULE_LICENSE("GPL");

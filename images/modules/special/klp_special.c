// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch whose functions are written late and hold, besides, what the kernel makes ready while
 * the livepatch loads: branches on static keys, static calls, alternatives, a warning, an exception
 * table's entry, a tracepoint, a message of dynamic debug. The tables of these lead into the very
 * functions that are not written yet.
 */
#include <linux/bitops.h>
#include <linux/livepatch.h>
#include <linux/spinlock.h>
#include <linux/static_call.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <net/ip_tunnels.h>
#include <trace/events/kmem.h>
#include "special.h"

/* --- a key of the kernel proper that is exported, and one of the target that is not ------------ */

KLP_E2E_SWITCH(ip_tunnel_metadata_cnt);

static bool klp_special_tunnel_branch(void)
{
	return static_branch_unlikely(&ip_tunnel_metadata_cnt);
}

/*
 * No branch on the target's key: its table would lead to what is not there while it is read. A
 * livepatch looks at the key itself, and the target's own code has the branch.
 */
static const char *klp_special_own_key(void)
{
	return klp_e2e_follows(klp_special_is_on(),
			       static_key_enabled(&klp_special_key));
}

static int klp_special_branch_patched(char *buffer)
{
	const char *before, *after, *own_before, *own_after;
	bool on, own_on;

	before = klp_e2e_follows(klp_special_tunnel_branch(),
				 static_key_enabled(&ip_tunnel_metadata_cnt));
	own_before = klp_special_own_key();
	static_branch_inc(&ip_tunnel_metadata_cnt);
	static_branch_inc(&klp_special_key);
	on = klp_special_tunnel_branch();
	own_on = klp_special_is_on();
	static_branch_dec(&ip_tunnel_metadata_cnt);
	static_branch_dec(&klp_special_key);
	after = klp_e2e_follows(klp_special_tunnel_branch(),
				static_key_enabled(&ip_tunnel_metadata_cnt));
	own_after = klp_special_own_key();
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_special vmlinux=%s,on=%d,%s target=%s,on=%d,%s number=%d\n",
			 before, on, after, own_before, own_on, own_after,
			 klp_special_number);
}

/* --- a static call, an indirect one, and instructions that are exchanged for better ones ------ */

static noinline int klp_special_own(int n)
{
	return 5 * n;
}
DEFINE_STATIC_CALL(klp_special_called, klp_special_own);

static DEFINE_RAW_SPINLOCK(klp_special_lock);
static atomic_t klp_special_atomic;

static int klp_special_call_patched(char *buffer)
{
	int (*indirect)(int) = klp_special_scale;
	int own, late, again, atomic;
	unsigned int bits;

	OPTIMIZER_HIDE_VAR(indirect);
	raw_spin_lock(&klp_special_lock);
	atomic_set(&klp_special_atomic, 40);
	bits = hweight_long(klp_special_number);
	atomic = atomic_add_return(2, &klp_special_atomic);
	raw_spin_unlock(&klp_special_lock);

	own = static_call(klp_special_called)(2);
	static_call_update(klp_special_called, klp_special_scale);
	late = static_call(klp_special_called)(2);
	/* The target may go. */
	static_call_update(klp_special_called, klp_special_own);
	again = static_call(klp_special_called)(3);
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_special static=%d,%d,%d indirect=%d bits=%u atomic=%d\n",
			 own, late, again, indirect(7), bits, atomic);
}

/* --- a tracepoint of the kernel proper: its key and its static call, both exported ------------- */

static atomic_t klp_special_traced;

/* Of the kernel's own calls too: it counts those that name the target's variable. */
static void klp_special_probe(void *data, unsigned long call_site, const void *ptr)
{
	if (ptr == data)
		atomic_inc(&klp_special_traced);
}

static noinline int klp_special_trace_once(void)
{
	atomic_set(&klp_special_traced, 0);
	trace_kfree(_RET_IP_, &klp_special_number);
	return atomic_read(&klp_special_traced);
}

static int klp_special_trace_patched(char *buffer)
{
	int before = klp_special_trace_once(), during, after, err;

	err = register_trace_kfree(klp_special_probe, &klp_special_number);
	during = klp_special_trace_once();
	if (!err)
		err = unregister_trace_kfree(klp_special_probe, &klp_special_number);
	after = klp_special_trace_once();
	/* Nothing may lead into this module, nor to the target's variable, when either goes. */
	tracepoint_synchronize_unregister();
	return scnprintf(buffer, PAGE_SIZE, "version=klp_special traced=%d,%d,%d error=%d\n",
			 before, during, after, err);
}

/* --- a fault, and the table that says how to go on -------------------------------------------- */

static noinline int klp_special_read(int *to, const int *from)
{
	pagefault_disable();
	__get_kernel_nofault(to, from, int, fault);
	pagefault_enable();
	return 0;
fault:
	pagefault_enable();
	return -EFAULT;
}

static int klp_special_fault_patched(char *buffer)
{
	/* Behind what vmalloc() gives there is a page that is not mapped. */
	char *page = vmalloc(PAGE_SIZE);
	int good, bad, read = 0, nothing;

	if (!page)
		return -ENOMEM;
	good = klp_special_read(&read, &klp_special_number);
	bad = klp_special_read(&nothing, (const int *)(page + PAGE_SIZE));
	vfree(page);
	return scnprintf(buffer, PAGE_SIZE, "version=klp_special good=%d read=%d bad=%d\n",
			 good, read, bad);
}

/* --- a warning: set.toml names its line ------------------------------------------------------- */

static noinline bool klp_special_is_odd(void)
{
	return WARN_ON_ONCE(klp_special_number & 1);
}

static int klp_special_warn_patched(char *buffer)
{
	int odd = klp_special_is_odd();

	odd += klp_special_is_odd();
	odd += klp_special_is_odd();
	return scnprintf(buffer, PAGE_SIZE, "version=klp_special odd=%d\n", odd);
}

/* --- a message that is off until someone asks for it ------------------------------------------ */

static int klp_special_debug_patched(char *buffer)
{
	int said = 0;

	/* What is not said is not evaluated. */
	pr_debug("klp_special: number %d, said %d\n", klp_special_number, ++said);
	return scnprintf(buffer, PAGE_SIZE, "version=klp_special said=%d scale=%d\n", said,
			 klp_special_scale(said));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_special_branch", .new_func = klp_special_branch_patched },
	{ .old_name = "klp_special_call", .new_func = klp_special_call_patched },
	{ .old_name = "klp_special_trace", .new_func = klp_special_trace_patched },
	{ .old_name = "klp_special_fault", .new_func = klp_special_fault_patched },
	{ .old_name = "klp_special_warn", .new_func = klp_special_warn_patched },
	{ .old_name = "klp_special_debug", .new_func = klp_special_debug_patched },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_special_target", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_special_init(void)
{
	int err = klp_enable_patch(&patch);

	if (err)
		klp_e2e_switch_off();
	return err;
}
module_init(klp_special_init);

static void __exit klp_special_exit(void)
{
	klp_e2e_switch_off();
}
module_exit(klp_special_exit);

MODULE_DESCRIPTION("klp-e2e: functions that are written late and have special sections");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

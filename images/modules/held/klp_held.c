// SPDX-License-Identifier: GPL-2.0-only
/*
 * A target in which, with hold=1, a task always sleeps in a patched function, so that no transition
 * can end before it has left; meanwhile another task, which can be switched over at once, calls other
 * patched functions. Each must see all functions before the transition, or all after it.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/livepatch.h>
#include <linux/preempt.h>
#include "klp_held.h"

#define POLL_MS		5
#define LATE_MS		200	/* time for a kernel that does not wait to go wrong */

void klp_held_sleep(void);

static int mixed;

static bool hold;
module_param(hold, bool, 0444);
MODULE_PARM_DESC(hold, "keep a task in a patched function");

static struct task_struct *sleeper, *caller;

klp_e2e_opaque int klp_held_mixed(void)
{
	if (hold)
		msleep(2 * LATE_MS);
	return mixed;
}

klp_e2e_opaque int klp_held_one(void)
{
	return klp_e2e_value(0);
}

klp_e2e_opaque int klp_held_two(void)
{
	return klp_e2e_value(0);
}

static bool fits(int one, int two)
{
	return klp_held_one() == one && klp_held_two() == two;
}

klp_e2e_opaque void klp_held_stay(int one, int two)
{
	while (!klp_patch_pending(current) && fits(one, two) && !kthread_should_stop())
		msleep(POLL_MS);
	if (!kthread_should_stop())
		msleep(LATE_MS);
	mixed += !fits(one, two);
}

klp_e2e_opaque void klp_held_sleep(void)
{
	klp_held_stay(0, 0);
	barrier();
}

static int klp_held_sleeper(void *unused)
{
	while (!kthread_should_stop()) {
		klp_held_sleep();
		/* Out of it, to be switched over. */
		while (klp_patch_pending(current) && !kthread_should_stop())
			msleep(POLL_MS);
	}
	return 0;
}

static int klp_held_caller(void *unused)
{
	while (!kthread_should_stop()) {
		preempt_disable();	/* it might be switched over between the two */
		mixed += !fits(0, 0) && !fits(1, 1) && !fits(2, 0);
		preempt_enable();
		msleep(POLL_MS);
	}
	return 0;
}

static klp_e2e_opaque int klp_held_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=original one=%d two=%d mixed=%d\n",
			 klp_held_one(), klp_held_two(), klp_held_mixed());
}
KLP_E2E_PROBE(show, klp_held_show);

static int __init klp_held_init(void)
{
	if (!hold)
		return 0;
	sleeper = kthread_run(klp_held_sleeper, NULL, "klp_held_sleeper");
	if (IS_ERR(sleeper))
		return PTR_ERR(sleeper);
	caller = kthread_run(klp_held_caller, NULL, "klp_held_caller");
	if (IS_ERR(caller)) {
		kthread_stop(sleeper);
		return PTR_ERR(caller);
	}
	return 0;
}
module_init(klp_held_init);

static void __exit klp_held_exit(void)
{
	if (hold) {
		kthread_stop(caller);
		kthread_stop(sleeper);
	}
}
module_exit(klp_held_exit);

MODULE_DESCRIPTION("klp-e2e: a target that holds up transitions");
MODULE_LICENSE("GPL");

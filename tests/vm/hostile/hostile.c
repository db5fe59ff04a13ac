// SPDX-License-Identifier: GPL-2.0-only
/* Keeps parameter "what", by which the set's probe makes the guest hostile, and says of itself what
 * is no report of the kernel's. */
#include <linux/module.h>
#include <linux/moduleparam.h>

static char *what = "calm";
module_param(what, charp, 0644);

static int __init hostile_init(void)
{
	pr_info("debug WARNING: calibration missing, using defaults\n");
	pr_info("hostile: BUG: none, INFO: task hostile:1 blocked for more than 120 seconds.\n");
	return 0;
}
module_init(hostile_init);

static void __exit hostile_exit(void)
{
}
module_exit(hostile_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("klp-e2e: makes a guest hostile");

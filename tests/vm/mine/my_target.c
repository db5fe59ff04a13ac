// SPDX-License-Identifier: GPL-2.0-only
#include <linux/kernel.h>
#include <linux/module.h>

extern int my_limit;
int my_base_step(void);
int my_limit = 10;

/* The bug: what is shown is one too many. */
__attribute__((__noipa__)) int my_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "limit=%d\n", my_limit + my_base_step());
}

static int get(char *buffer, const struct kernel_param *kp)
{
	return my_show(buffer);
}

static const struct kernel_param_ops ops = { .get = get };
module_param_cb(show, &ops, NULL, 0444);

static int __init my_init(void)
{
	return 0;
}
module_init(my_init);

static void __exit my_exit(void)
{
}
module_exit(my_exit);

MODULE_DESCRIPTION("a module with a bug");
MODULE_LICENSE("GPL");

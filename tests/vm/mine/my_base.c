// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>

int my_base_step(void);
int my_base_step(void)
{
	return 1;
}
EXPORT_SYMBOL_GPL(my_base_step);

MODULE_DESCRIPTION("what my_target needs");
MODULE_LICENSE("GPL");

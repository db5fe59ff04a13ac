// SPDX-License-Identifier: GPL-2.0-only
#include <linux/module.h>

MODULE_DESCRIPTION("takes the memory that my_target left");
MODULE_LICENSE("GPL");

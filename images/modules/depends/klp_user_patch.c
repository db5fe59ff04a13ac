// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch of klp_user alone, whose klp sections use symbols of klp_base as well, exported or
 * not: klp_base is there whenever klp_user is.
 */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

/* Of klp_user */
extern int klp_user_number;

/* Of klp_base */
extern int klp_base_number;
extern int klp_base_secret;
int klp_base_scale(int n);
int klp_base_exported(void);

/* Pointers in data; global, or gcc would move them to read-only data. */
extern int *klp_user_patch_ptr;
int *klp_user_patch_ptr = &klp_base_number;
extern int (*klp_user_patch_fptr)(int);
int (*klp_user_patch_fptr)(int) = klp_base_scale;

static int klp_user_patch_show(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_user_patch read=%d base=%d call=%d secret=%d ptr=%d fptr=%d\n",
			 klp_user_number, klp_base_exported(), klp_base_scale(2), klp_base_secret,
			 *klp_user_patch_ptr, klp_user_patch_fptr(3));
}

static struct klp_func funcs[] = {
	{ .old_name = "klp_user_show", .new_func = klp_user_patch_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "klp_user", .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_user_patch_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_user_patch_init);

static void __exit klp_user_patch_exit(void)
{
}
module_exit(klp_user_patch_exit);

MODULE_DESCRIPTION("klp-e2e: klp relocations to a module that the target uses");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

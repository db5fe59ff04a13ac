// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch of the kernel proper, through symbols that it does not export. Such relocations are
 * applied while the livepatch itself loads, before alternatives and jump labels; with KASLR they
 * lead somewhere else in every boot. All that it shows is the same for every kernel version.
 */
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/livepatch.h>
#include <linux/seq_file.h>
#include "../klp_e2e.h"

/* init/main.c: starts with "HOME=/", "TERM=linux" */
extern const char *envp_init[];
/* init/version.c: starts with "%s version %s" */
extern const char linux_proc_banner[];

/*
 * kernel/ksysfs.c: writes "1", to a page. It is static, the kernel calls it through a pointer, and so may
 * a livepatch (see KLP_E2E_POINTED_TO); its type is whatever such a pointer's is.
 */
extern typeof(*((struct kobj_attribute *)0)->show) fscaps_show;

/* A pointer in data; global, or gcc would move it to read-only data. */
extern const char **klp_vmlinux_data_ptr;
const char **klp_vmlinux_data_ptr = &envp_init[1];

/* Pointers in read-only data. */
static const void *const klp_vmlinux_ro_ptrs[] = { fscaps_show, &saved_command_line };

static int klp_vmlinux_show(struct seq_file *m, void *v)
{
	static char page[PAGE_SIZE] __aligned(PAGE_SIZE);
	typeof(&fscaps_show) fptr = fscaps_show, ro_fptr;
	char *const *ro_ptr;
	char first, second;
	unsigned long one = 1, three = 3;

	OPTIMIZER_HIDE_VAR(fptr);
	OPTIMIZER_HIDE_VAR(one);
	OPTIMIZER_HIDE_VAR(three);
	ro_fptr = klp_vmlinux_ro_ptrs[one - 1];
	ro_ptr = klp_vmlinux_ro_ptrs[one];
	page[0] = 0;
	fptr(NULL, NULL, page);
	first = page[0];
	page[0] = 0;
	ro_fptr(NULL, NULL, page);
	second = page[0];

	seq_puts(m, "version=klp_vmlinux");
	seq_put_hex_ll(m, " call=", 0x4242, 8);
	seq_printf(m, " fptr=%c ro_fptr=%c read=%s index=%c data_ptr=%s ro_ptr=%s cmdline=%s\n",
		   first, second, envp_init[0], linux_proc_banner[three], *klp_vmlinux_data_ptr,
		   *ro_ptr == saved_command_line ? "same" : "other", saved_command_line);
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = klp_vmlinux_show },
	{ }
};

static struct klp_object objs[] = {
	{ .name = NULL, .funcs = funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
};

static int __init klp_vmlinux_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_vmlinux_init);

static void __exit klp_vmlinux_exit(void)
{
}
module_exit(klp_vmlinux_exit);

MODULE_DESCRIPTION("klp-e2e: klp relocations to unexported symbols of the kernel proper");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A livepatch of the kernel proper, through symbols that it does not export. Such relocations are
 * applied while the livepatch itself loads, before alternatives and jump labels; with KASLR they
 * lead somewhere else in every boot. All that it shows is the same for every kernel version.
 */
#include <linux/init.h>
#include <linux/livepatch.h>
#include <linux/seq_file.h>
#include "../klp_e2e.h"

/* init/main.c: starts with "HOME=/", "TERM=linux" */
extern const char *envp_init[];
/* init/version.c: starts with "%s version %s" */
extern const char linux_proc_banner[];

/* A pointer in data; global, or gcc would move it to read-only data. */
extern const char **klp_vmlinux_data_ptr;
const char **klp_vmlinux_data_ptr = &envp_init[1];

/* Pointers in read-only data. */
static const void *const klp_vmlinux_ro_ptrs[] = { num_to_str, &saved_command_line };

static int klp_vmlinux_show(struct seq_file *m, void *v)
{
	int (*fptr)(char *, int, unsigned long long, unsigned int) = num_to_str;
	int (*ro_fptr)(char *, int, unsigned long long, unsigned int);
	char *const *ro_ptr;
	char first[8] = "", second[8] = "";
	unsigned long one = 1, three = 3;

	OPTIMIZER_HIDE_VAR(fptr);
	OPTIMIZER_HIDE_VAR(one);
	OPTIMIZER_HIDE_VAR(three);
	ro_fptr = klp_vmlinux_ro_ptrs[one - 1];
	ro_ptr = klp_vmlinux_ro_ptrs[one];
	fptr(first, sizeof(first) - 1, 6174, 0);
	ro_fptr(second, sizeof(second) - 1, 1729, 0);

	seq_puts(m, "version=klp_vmlinux");
	seq_put_hex_ll(m, " call=", 0x4242, 8);
	seq_printf(m, " fptr=%s ro_fptr=%s read=%s index=%c data_ptr=%s ro_ptr=%s cmdline=%s\n",
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

// SPDX-License-Identifier: GPL-2.0-only
/*
 * What kpatch-build and klp-build make of a patch, by hand: a section for each function and each
 * variable, the kernel and several modules patched at once, one of them never loaded, symbols whose
 * names are not unique, callbacks, replace, and what the tools leave behind.
 */
#include <linux/init.h>
#include <linux/livepatch.h>
#include <linux/seq_file.h>
#include "own.h"

/* The kernel's own; there are several c_start(), and only where one is matters here. */
extern const char *envp_init[];
void c_start(void);
/* klp_own_target's, static */
extern int klp_own_twin;
int klp_own_scale(int n);
int klp_own_twin_call(void);
/* klp_own_other's, static */
int klp_own_other_scale(int n);
/* of a module that does not exist */
extern int klp_own_absent_number;
int klp_own_absent_call(void);

/* .data.NAME, .rodata.NAME or .data.rel.ro.NAME, .bss.NAME */
int *klp_own_patch_ptr = &klp_own_counter;
int (*klp_own_patch_fptr)(int) = klp_own_other_scale;
void (*klp_own_patch_start)(void) = c_start;
static const int *const klp_own_patch_ro[] = { &klp_own_number, &klp_own_table[1] };
static int klp_own_patch_calls;

static int klp_own_patch_show(char *buffer)
{
	unsigned long one = 1;

	OPTIMIZER_HIDE_VAR(one);
	klp_own_counter = 500;
	return scnprintf(buffer, PAGE_SIZE,
			 "version=klp_own_patch call=%d read=%d,%d twin=%d,%d counter=%d base=%d\n",
			 klp_own_scale(6), *klp_own_patch_ro[one - 1], *klp_own_patch_ro[one],
			 klp_own_twin, klp_own_twin_call(), *klp_own_patch_ptr,
			 klp_own_base_number);
}

static int klp_own_patch_aside(char *buffer)
{
	klp_own_patch_calls++;
	return scnprintf(buffer, PAGE_SIZE, "version=klp_own_patch read=%d called=%d\n",
			 klp_own_number, klp_own_patch_calls > 0);
}

static int klp_own_patch_other(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_own_patch call=%d,%d read=%d\n",
			 klp_own_other_scale(2), klp_own_patch_fptr(3), klp_own_other_number);
}

static int klp_own_patch_absent(char *buffer)
{
	return scnprintf(buffer, PAGE_SIZE, "version=klp_own_patch call=%d read=%d\n",
			 klp_own_absent_call(), klp_own_absent_number);
}

static int klp_own_patch_cmdline(struct seq_file *m, void *v)
{
	seq_printf(m, "version=klp_own_patch read=%s start=%d\n", envp_init[0],
		   klp_own_patch_start != NULL);
	return 0;
}

/* Called with the relocations in place: it has to be so before the first one is. */
static int klp_own_patch_pre(struct klp_object *obj)
{
	return obj->name && !strcmp(obj->name, "klp_own_target") && klp_own_number != 42 ? -EINVAL : 0;
}

static void klp_own_patch_post(struct klp_object *obj)
{
	klp_own_patch_calls = 0;
}

static struct klp_func vmlinux_funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = klp_own_patch_cmdline },
	{ }
};

static struct klp_func target_funcs[] = {
	{ .old_name = "klp_own_show", .new_func = klp_own_patch_show },
	{ .old_name = "klp_own_aside", .new_func = klp_own_patch_aside, .old_sympos = 1 },
	{ }
};

static struct klp_func other_funcs[] = {
	{ .old_name = "klp_own_other_show", .new_func = klp_own_patch_other },
	{ }
};

static struct klp_func absent_funcs[] = {
	{ .old_name = "klp_own_absent_show", .new_func = klp_own_patch_absent },
	{ }
};

static struct klp_object objs[] = {
	{ .name = NULL, .funcs = vmlinux_funcs },
	{
		.name = "klp_own_target",
		.funcs = target_funcs,
		.callbacks = { .pre_patch = klp_own_patch_pre, .post_unpatch = klp_own_patch_post },
	},
	{ .name = "klp_own_absent", .funcs = absent_funcs },
	{ .name = "klp_own_other", .funcs = other_funcs },
	{ }
};

static struct klp_patch patch = {
	.mod = THIS_MODULE,
	.objs = objs,
	.replace = true,
};

/* What tools leave behind: loaded with the module and not, with relocations of their own. */
static const char left[] __used __section(".kpatch.strings") = "klp_own_target";
static const struct klp_func *const left_funcs[] __used __section(".kpatch.funcs") = { target_funcs };
asm(".pushsection .kpatch.left,\"\",%progbits\n"
    ".quad klp_own_patch_ptr\n"
    ".popsection\n");

static int __init klp_own_patch_init(void)
{
	return klp_enable_patch(&patch);
}
module_init(klp_own_patch_init);

static void __exit klp_own_patch_exit(void)
{
}
module_exit(klp_own_patch_exit);

MODULE_DESCRIPTION("klp-e2e: a livepatch as other tools lay it out");
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");

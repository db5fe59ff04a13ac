// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where this kernel's livepatch structures have what: numbers of eight bytes, in the sequence of
 * orchestrator/elf/patchtable.py, Layout. Never loaded.
 */
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/stddef.h>

static const u64 klp_e2e_layout[] __used __section(".klp_e2e_layout") = {
	offsetof(struct klp_patch, mod),
	offsetof(struct klp_patch, objs),
	offsetof(struct klp_patch, replace),
	offsetof(struct klp_patch, states),
	offsetof(struct klp_object, name),
	offsetof(struct klp_object, funcs),
	sizeof(struct klp_object),
	offsetof(struct klp_func, old_name),
	offsetof(struct klp_func, new_func),
	offsetof(struct klp_func, old_sympos),
	sizeof(struct klp_func),
	offsetof(struct klp_state, id),
	offsetof(struct klp_state, version),
	sizeof(struct klp_state),
};

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("klp-e2e: where livepatch's structures have what");

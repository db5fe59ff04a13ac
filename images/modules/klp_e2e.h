/* SPDX-License-Identifier: GPL-2.0-only */
/* What the modules of every set share. Sets include it as "../klp_e2e.h". */
#ifndef KLP_E2E_H
#define KLP_E2E_H

#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/jump_label.h>
#include <linux/kernel.h>
#include <linux/kstrtox.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>

/*
 * A function that a livepatch replaces or calls: it keeps its name and its calling convention, is
 * never inlined, and no caller may know anything of what it does. noinline alone is not enough:
 * gcc still derives from the body what it returns and which memory it leaves alone. clang does not
 * know noipa; to it the same is a function that it may not optimize, nor drop when it is static, and
 * that returns no constant: clang tells its callers of one all the same (see klp_e2e_value).
 * Everything else that a set needs of a compiler is the kernel's own (READ_ONCE, __used,
 * OPTIMIZER_HIDE_VAR), and the same for both.
 */
#ifdef __clang__
#define klp_e2e_opaque __attribute__((__noinline__, __used__, __optnone__))
#else
#define klp_e2e_opaque __attribute__((__noipa__))
#endif

/*
 * Such a function, where livepatches call it through a pointer: its own module takes its address,
 * too. Of a static one of which nobody does clang's CFI leaves out the type that such a call looks
 * for, and x86_64's IBT seals any, so that no such call may reach it.
 */
#define KLP_E2E_POINTED_TO(function)						\
	static typeof(&(function)) const function##_pointer __used = function

/* A constant that such a function returns, and that no compiler knows. */
#define klp_e2e_value(constant) ({						\
	int klp_e2e_hidden = (constant);					\
										\
	OPTIMIZER_HIDE_VAR(klp_e2e_hidden);					\
	klp_e2e_hidden;								\
})

static inline int klp_e2e_refuse_set(const char *value, const struct kernel_param *kp)
{
	return -EPERM;
}

/*
 * The probe: /sys/module/<this module>/parameters/<name> shows what function(buffer) prints. It is
 * called the ordinary way, so ftrace leads the call to whichever livepatch is on top. The buffer
 * holds PAGE_SIZE bytes.
 */
#define KLP_E2E_PROBE(name, function)						\
	static int name##_get(char *buffer, const struct kernel_param *kp)	\
	{									\
		return function(buffer);					\
	}									\
	static const struct kernel_param_ops name##_ops = {			\
		.set = klp_e2e_refuse_set,					\
		.get = name##_get,						\
	};									\
	module_param_cb(name, &name##_ops, NULL, 0444)

/*
 * What function(buffer) printed when the module's own init called it: /sys/module/<this module>/
 * parameters/<name>_at_init. Livepatch must have finished with the module by then.
 */
#define KLP_E2E_INIT_PROBE(name, function)					\
	static char name##_at_init_text[PAGE_SIZE];				\
	static void __init name##_at_init_record(void)				\
	{									\
		function(name##_at_init_text);					\
	}									\
	static int name##_at_init_get(char *buffer, const struct kernel_param *kp) \
	{									\
		return scnprintf(buffer, PAGE_SIZE, "%s", name##_at_init_text);	\
	}									\
	static const struct kernel_param_ops name##_at_init_ops = {		\
		.set = klp_e2e_refuse_set,					\
		.get = name##_at_init_get,					\
	};									\
	module_param_cb(name##_at_init, &name##_at_init_ops, NULL, 0444)

/*
 * All four callbacks of one object of a livepatch, and their record: /sys/module/<this module>/
 * parameters/<name> shows the calls from the last pre_patch on, each with whether the object was
 * patched by then, and with `value`, an int of the target, read through a klp relocation: it has to
 * be in place from before pre_patch until after post_unpatch. pre_patch returns `result`.
 */
#define KLP_E2E_CALLBACKS(prefix, name, value, result)				\
	static char prefix##_calls[512];					\
	static void prefix##_record(const char *callback, const struct klp_object *obj) \
	{									\
		size_t len = strlen(prefix##_calls);				\
										\
		scnprintf(prefix##_calls + len, sizeof(prefix##_calls) - len,	\
			  "%s%s:patched=%d,read=%d", len ? " " : "", callback,	\
			  obj->patched, value);					\
	}									\
	static int prefix##_pre_patch(struct klp_object *obj)			\
	{									\
		prefix##_calls[0] = 0;						\
		prefix##_record("pre_patch", obj);				\
		return result;							\
	}									\
	static void prefix##_post_patch(struct klp_object *obj)			\
	{									\
		prefix##_record("post_patch", obj);				\
	}									\
	static void prefix##_pre_unpatch(struct klp_object *obj)		\
	{									\
		prefix##_record("pre_unpatch", obj);				\
	}									\
	static void prefix##_post_unpatch(struct klp_object *obj)		\
	{									\
		prefix##_record("post_unpatch", obj);				\
	}									\
	static int prefix##_calls_get(char *buffer, const struct kernel_param *kp) \
	{									\
		return scnprintf(buffer, PAGE_SIZE, "%s\n",			\
				 prefix##_calls[0] ? prefix##_calls : "none");	\
	}									\
	static const struct kernel_param_ops prefix##_calls_ops = {		\
		.set = klp_e2e_refuse_set,					\
		.get = prefix##_calls_get,					\
	};									\
	module_param_cb(name, &prefix##_calls_ops, NULL, 0444)

/* The initializer of klp_object.callbacks. */
#define KLP_E2E_CALLBACKS_OF(prefix) {						\
	.pre_patch = prefix##_pre_patch,					\
	.post_patch = prefix##_post_patch,					\
	.pre_unpatch = prefix##_pre_unpatch,					\
	.post_unpatch = prefix##_post_unpatch,					\
}

/*
 * The parameter `on` of a module, which counts a static key up and down, also while nothing
 * that branches on it is called, or there. klp_e2e_switch_off() is for the module's exit.
 */
#define KLP_E2E_SWITCH(key)						\
	static bool klp_e2e_on;						\
	static noinline void klp_e2e_switch(bool on)			\
	{								\
		if (on && !klp_e2e_on)					\
			static_branch_inc(&(key));			\
		if (!on && klp_e2e_on)					\
			static_branch_dec(&(key));			\
		klp_e2e_on = on;					\
	}								\
	static noinline void klp_e2e_switch_off(void)			\
	{								\
		klp_e2e_switch(false);					\
	}								\
	static int klp_e2e_on_set(const char *value, const struct kernel_param *kp) \
	{								\
		bool on;						\
		int err = kstrtobool(value, &on);			\
									\
		if (!err)						\
			klp_e2e_switch(on);				\
		return err;						\
	}								\
	static int klp_e2e_on_get(char *buffer, const struct kernel_param *kp) \
	{								\
		return scnprintf(buffer, PAGE_SIZE, "%d\n", klp_e2e_on); \
	}								\
	static const struct kernel_param_ops klp_e2e_on_ops = {		\
		.set = klp_e2e_on_set,					\
		.get = klp_e2e_on_get,					\
	};								\
	module_param_cb(on, &klp_e2e_on_ops, NULL, 0644)

/* Whether a branch went as its key says, which holds whoever has switched it on or off before. */
static inline const char *klp_e2e_follows(bool branch, bool enabled)
{
	return branch == enabled ? "follows" : enabled ? "missed-on" : "missed-off";
}

#endif

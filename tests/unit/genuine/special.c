// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the other objtool modules are made of: this file, compiled as several objects, each without
 * and with -DPATCHED. KIND is one of those below. See make.sh.
 */
#define TWO_OBJECTS 1
#define NAMESAKE 2
#define TABLES 3
#define OTHERS 4
#define ALTERNATIVE 5
#define SEC(x) __attribute__((section(x), used, aligned(1)))
#define NOINLINE __attribute__((noinline, noclone))
/* as include/linux/livepatch_helpers.h: a pointer that objtool looks for by its name */
#define CALLBACK(when, object, function) \
	void *__klp_##when##_callback_##object __attribute__((section(".discard.klp_callback_ptrs"), used)) = function

extern int printk_like(const char *fmt, ...);

#ifdef MODULE
static const char modname[] SEC(".modinfo") = "license=GPL\0name=klp_target";
#define OBJECT klp_target
#define NAME(x) target_##x
#else
static const char modname[] SEC(".modinfo") = "license=GPL";
#define OBJECT vmlinux
#define NAME(x) core_##x
#endif
#define PASTE(a, b, c) CALLBACK(a, b, c)

#if KIND == TWO_OBJECTS
int NAME(hidden) = 1;
int NAME(patched)(int n);
#ifdef PATCHED
static int before(void *object) { return printk_like("before %p\n", object); }
static void after(void *object) { printk_like("after %p\n", object); }
PASTE(pre_patch, OBJECT, before);
PASTE(post_unpatch, OBJECT, after);
int NAME(patched)(int n) { return n + NAME(hidden) + 1; }
#else
int NAME(patched)(int n) { return n + NAME(hidden); }
#endif

#elif KIND == NAMESAKE
/* Two files of one object have this function and these variables. */
static int seen;
static NOINLINE int twin(int n)
{
	static int times;

	seen += n;
#if defined(PATCHED) && defined(SECOND)
	if (n < 0)
		return 0;
#endif
	return n + seen + times++;
}
#ifdef SECOND
int core_second(int n);
int core_second(int n) { return twin(n) + 2; }
#else
int core_first(int n);
int core_first(int n) { return twin(n) + 1; }
#endif

#elif KIND == OTHERS
/* In any vmlinux there are two of a name; objtool does not know one without. */
static NOINLINE int same(int n) { return n + 3; }
int WHICH(int n);
int WHICH(int n) { return same(n) + 1; }

#elif KIND == ALTERNATIVE
/* As arch/x86/include/asm/alternative.h: of two calls of what nobody exports, and none of them. */
int core_plain(int n);
int core_other_one(int n);
int core_chosen(int n);
NOINLINE int core_plain(int n) { return n + 1; }
NOINLINE int core_other_one(int n) { return n + 2; }
int core_chosen(int n)
{
	int found = n;

#ifdef PATCHED
	asm volatile("771: call core_plain\n773:\n"
		     ".pushsection .altinstructions, \"aM\", @progbits, 14\n"
		     ".long 771b - ., 774f - .\n.4byte 21\n.byte 773b - 771b, 775f - 774f\n.popsection\n"
		     ".pushsection .altinstr_replacement, \"ax\"\n"
		     "912: .pushsection .discard.annotate_data, \"M\", @progbits, 8\n"
		     ".long 912b - ., 1\n.popsection\n774: call core_other_one\n775:\n.popsection\n"
		     : "+a" (found) : "D" (n) : "memory", "cc", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11");
	found += core_plain(n);
#endif
	return found + 1;
}

#elif KIND == TABLES
/* The key of a static branch, as include/linux/jump_label.h has it; one is exported. */
struct key { int enabled; void *type; };
struct key core_key, core_shown_key;
#define BRANCH(key) asm goto("1: .byte 0x0f, 0x1f, 0x44, 0, 0\n"			\
	".pushsection __jump_table, \"awM\", @progbits, 16\n"				\
	".long 1b - ., %l[on] - .\n.quad %c0 - .\n.popsection\n" : : "i" (&key) : : on)
int core_tables(int *from);
int core_tables(int *from)
{
	int read = 0;

#ifdef PATCHED
	BRANCH(core_key);
	BRANCH(core_shown_key);
	/* arch/x86/include/asm/bug.h, asm/extable.h, with the size of an entry in the section's header */
	asm volatile("1: ud2\n.pushsection __bug_table, \"awM\", @progbits, 12\n"
		     ".long 1b - ., %c0 - .\n.word 7, 1\n.popsection\n" : : "i" ("special.c"));
	asm volatile("1: movl (%1), %0\n2:\n.pushsection __ex_table, \"aM\", @progbits, 12\n"
		     ".long 1b - ., 2b - ., 3\n.popsection\n" : "+r" (read) : "r" (from));
#endif
	return read + 1;
#ifdef PATCHED
on:
	return printk_like("on\n");
#endif
}
#endif

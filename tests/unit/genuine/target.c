// SPDX-License-Identifier: GPL-2.0-only
/* What objtool-7.3.4.ko is made of: this file, compiled without and with -DPATCHED. See make.sh. */
#define SEC(x) __attribute__((section(x), used, aligned(1)))
static const char modname[] SEC(".modinfo") = "name=klp_target";
extern int printk_like(const char *fmt, ...);
int secret = 42;
static int counter;
static __attribute__((noinline)) int local_helper(int n) { return n * secret + counter++; }
int patched_one(int n);
int patched_one(int n)
{
#ifdef PATCHED
	printk_like("patched %d\n", local_helper(n) + secret);
#else
	printk_like("original %d\n", n);
#endif
	return n + 1;
}
int other(int n);
int other(int n) { return local_helper(n) + patched_one(n); }

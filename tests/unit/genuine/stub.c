// SPDX-License-Identifier: GPL-2.0-only
/* What makes a module of it. */
#define SEC(x) __attribute__((section(x), used, aligned(1)))
static const char a[] SEC(".modinfo") = "livepatch=Y";
static const char b[] SEC(".modinfo") = "name=livepatch_fix";
static const char c[] SEC(".modinfo") = "license=GPL";
static char mod[1152] __attribute__((section(".gnu.linkonce.this_module"), used, aligned(64)));

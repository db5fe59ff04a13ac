/* SPDX-License-Identifier: GPL-2.0-only */
/* What klp_held defines and does not export. */
#ifndef KLP_HELD_H
#define KLP_HELD_H

#include "../klp_e2e.h"

/*
 * How often a task found versions of functions that do not belong together. Waits until one has said
 * so that a transition should have waited for.
 */
int klp_held_mixed(void);

/* Which version runs: 0 the original, 1 that of klp_held_first, 2 that of klp_held_second. */
int klp_held_one(void);
int klp_held_two(void); /* klp_held_second leaves it alone */

/*
 * Sleeps until late in a transition, which cannot end as long as a patched function calls this; that
 * one has to go on after the call, or gcc leaves no trace of it on the stack. `one` and `two` are
 * what the caller's version goes with.
 */
void klp_held_stay(int one, int two);

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/* What klp_target defines and does not export. */
#ifndef KLP_TARGET_H
#define KLP_TARGET_H

#include "../klp_e2e.h"

/*
 * Added to every value in data; code never depends on it. The filler is this module over again
 * with another salt: each symbol at the same offset, so that it settles exactly where the target
 * was, and not one value the same, so that what still leads to the target's old place shows a wrong
 * value instead of crashing the guest.
 */
#ifndef KLP_TARGET_SALT
#define KLP_TARGET_SALT 0
#endif

struct klp_target_pair {
	int first;
	int second;
};

extern int klp_target_number;
extern int klp_target_written;
extern int klp_target_hidden __attribute__((visibility("hidden")));
extern struct klp_target_pair klp_target_pair;
extern const int klp_target_table[4];

int klp_target_read_written(void);
int klp_target_shift(int n);
int klp_target_twins(void);

#endif

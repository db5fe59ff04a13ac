/* SPDX-License-Identifier: GPL-2.0-only */
/* What the modules of this set define and, but for klp_own_base_scale(), do not export. */
#ifndef OWN_H
#define OWN_H

#include "../klp_e2e.h"

/* klp_own_base */
extern int klp_own_base_number;
int klp_own_base_scale(int n);

/* klp_own_target */
extern int klp_own_number;
extern int klp_own_counter;
extern const int klp_own_table[4];
int klp_own_twins(void);

/* klp_own_other */
extern int klp_own_other_number;

#endif

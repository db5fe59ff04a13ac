/* SPDX-License-Identifier: GPL-2.0-only */
/* What klp_keys_target defines. */
#ifndef KLP_KEYS_H
#define KLP_KEYS_H

#include "../klp_e2e.h"

/* Not exported. */
extern int klp_keys_number;
int klp_keys_scale(int n);

/* Exported. */
extern struct static_key_false klp_keys_outer_key;

#endif

/* SPDX-License-Identifier: GPL-2.0-only */
/* What klp_special_target defines and does not export. */
#ifndef KLP_SPECIAL_H
#define KLP_SPECIAL_H

#include <linux/jump_label.h>
#include "../klp_e2e.h"

/* Added to every value in data; the filler is the same module with another salt, see ../basic. */
#ifndef KLP_SPECIAL_SALT
#define KLP_SPECIAL_SALT 0
#endif

extern int klp_special_number;
extern struct static_key_false klp_special_key;
int klp_special_scale(int n);
bool klp_special_is_on(void);
#endif

// SPDX-License-Identifier: GPL-2.0-only
/* Takes the memory that klp_special_target left, so that it comes back at another address. */
#define KLP_SPECIAL_SALT 100000
#include "klp_special_target.c"

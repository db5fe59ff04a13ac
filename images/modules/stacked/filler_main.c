// SPDX-License-Identifier: GPL-2.0-only
/* Takes the memory that klp_stacked_target left, so that it comes back at another address. */
#define KLP_STACKED_SALT 100000
#include "target_main.c"

// SPDX-License-Identifier: GPL-2.0-only
/* Calls the kernel proper through a klp section of klp_strict, too late for what loads. */
#define KLP_REFUSED_READ num_to_str(buffer, 8, 7, 0)
#define KLP_REFUSED_FUNCTION "klp_strict_show"
#include "refused.h"

// SPDX-License-Identifier: GPL-2.0-only
/* Reads a symbol that klp_strict has not. */
#define KLP_REFUSED_READ klp_strict_nowhere
#define KLP_REFUSED_FUNCTION "klp_strict_show"
#include "refused.h"

// SPDX-License-Identifier: GPL-2.0-only
/* Replaces a function that klp_strict has not. */
#define KLP_REFUSED_READ 0
#define KLP_REFUSED_FUNCTION "klp_strict_nowhere"
#include "refused.h"

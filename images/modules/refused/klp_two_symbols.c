// SPDX-License-Identifier: GPL-2.0-only
/* Reads one of two symbols, and does not say which: see sympos in set.toml. */
#define KLP_REFUSED_READ klp_strict_twin
#define KLP_REFUSED_FUNCTION "klp_strict_show"
#include "refused.h"

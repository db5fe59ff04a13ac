// SPDX-License-Identifier: GPL-2.0-only
/* Reads the third of two symbols: see sympos in set.toml. */
#define KLP_REFUSED_READ klp_strict_twin
#define KLP_REFUSED_FUNCTION "klp_strict_show"
#include "refused.h"

// SPDX-License-Identifier: GPL-2.0-only
/* Knows nothing of states. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

#define KLP_STATES_FIELDS
#include "states.h"

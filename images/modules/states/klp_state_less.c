// SPDX-License-Identifier: GPL-2.0-only
/* Takes the place of every other livepatch, and knows one state only. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

static struct klp_state klp_states[] = {
	{ .id = 1, .version = 2 },
	{ }
};

#define KLP_STATES_FIELDS .states = klp_states, .replace = true,
#include "states.h"

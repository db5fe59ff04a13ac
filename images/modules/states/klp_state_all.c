// SPDX-License-Identifier: GPL-2.0-only
/* Takes the place of every other livepatch, and knows what each of them does. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

static struct klp_state klp_states[] = {
	{ .id = 2, .version = 1 },
	{ .id = 1, .version = 2 },
	{ .id = 30, .version = 7 },
	{ }
};

#define KLP_STATES_FIELDS .states = klp_states, .replace = true,
#include "states.h"

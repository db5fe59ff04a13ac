// SPDX-License-Identifier: GPL-2.0-only
/* One state, in its first version. */
#include <linux/livepatch.h>
#include "../klp_e2e.h"

static struct klp_state klp_states[] = {
	{ .id = 1, .version = 1 },
	{ }
};

#define KLP_STATES_FIELDS .states = klp_states,
#include "states.h"

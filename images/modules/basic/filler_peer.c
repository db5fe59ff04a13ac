// SPDX-License-Identifier: GPL-2.0-only
#define KLP_TARGET_SALT 100000
#include "target_peer.c"

/* SPDX-License-Identifier: GPL-2.0-only */
/* What klp_stacked_target defines and does not export. */
#ifndef KLP_STACKED_H
#define KLP_STACKED_H

/* Added to every value in data; the filler is the same module with another salt, see ../basic. */
#ifndef KLP_STACKED_SALT
#define KLP_STACKED_SALT 0
#endif

extern int klp_stacked_number;
extern int klp_stacked_written;

int klp_stacked_read_written(void);
int klp_stacked_peer_call(int n);

#endif

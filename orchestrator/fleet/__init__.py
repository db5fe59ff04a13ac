# SPDX-License-Identifier: GPL-2.0-only
"""Work on many machines, over Dask (`distributed`, the extra `fleet`)."""

# SPDX-License-Identifier: GPL-2.0-only
"""Where a kernel comes from: trees, series of patches, and patches of our own that break it."""

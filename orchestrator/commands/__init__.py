# SPDX-License-Identifier: GPL-2.0-only
"""What each command does, from `options` to a directory of results. Nothing here prints."""

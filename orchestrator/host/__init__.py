# SPDX-License-Identifier: GPL-2.0-only
"""This machine: processes, files, locks, the tools it has."""

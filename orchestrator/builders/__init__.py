# SPDX-License-Identifier: GPL-2.0-only
"""From a source patch to a livepatch, by the builders that people use."""

# SPDX-License-Identifier: GPL-2.0-only
"""The two files of an architecture: what they tell, what this machine says to them, a template."""

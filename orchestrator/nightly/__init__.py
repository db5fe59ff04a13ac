# SPDX-License-Identifier: GPL-2.0-only
"""A night: a matrix of kernels, run unattended and within its time."""

# SPDX-License-Identifier: GPL-2.0-only
"""A virtual machine and the ways into it: console, QMP, SSH, our agent."""

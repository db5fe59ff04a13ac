# SPDX-License-Identifier: GPL-2.0-only
"""Many orders: a plan walked over snapshots, failures shortened, and kept to be replayed."""

# SPDX-License-Identifier: GPL-2.0-only
"""Livepatch modules as bytes: read, checked against the rules, converted, broken, written. Pure."""

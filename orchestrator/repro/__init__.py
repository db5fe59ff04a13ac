# SPDX-License-Identifier: GPL-2.0-only
"""One failure, kept so that anybody can see it again, and what is written about it for people."""

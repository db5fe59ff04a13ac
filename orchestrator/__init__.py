# SPDX-License-Identifier: GPL-2.0-only
"""klp-e2e: prove that Linux livepatch works, whatever the order in which modules come and go."""

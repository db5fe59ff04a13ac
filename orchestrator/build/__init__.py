# SPDX-License-Identifier: GPL-2.0-only
"""From a patched tree to what a guest needs: kernel, modules, userland."""

# SPDX-License-Identifier: GPL-2.0-only
"""Each command of klp-e2e is the module, or the folder, of its name: what is typed (its options),
what is done, and what is shown."""

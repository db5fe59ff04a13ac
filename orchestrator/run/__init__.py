# SPDX-License-Identifier: GPL-2.0-only
"""One order on a guest: done, looked at, judged.

`booting` boots, `observe` looks, `runner` does an event and a case, `slot` keeps a guest between
uses, `workers` are guests side by side, `scriptrun` runs one of the kernel's own test scripts.
"""

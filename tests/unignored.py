# SPDX-License-Identifier: GPL-2.0-only
"""A pytest plugin: what tests start can be interrupted, however the tests were started themselves.

`nohup make test &` has SIGHUP, SIGINT and SIGQUIT ignored in every process below it, and what is
ignored stays so across exec: a test that closes a terminal, or presses Ctrl-C, waited for ever.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

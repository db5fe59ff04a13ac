# SPDX-License-Identifier: GPL-2.0-only
"""What must happen: the notation of orders, the model of livepatch, and what is wrong. Pure.

`state`, `semantics` and `races` say what events do, `model` what must hold after them, `judge` what
of what was seen is wrong, `known` what of that is known; `walk` which orders an exploration takes,
`minimise` and `findings` what becomes of those that fail.
"""

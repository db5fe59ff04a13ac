# SPDX-License-Identifier: GPL-2.0-only
"""A night for those who do not look at its pages: pure functions of a `Night` and its `Changes`.

`digest` says in a few words what became of it, `mail` and `summary` are for people, `junit`, `ktap`
and `kcidb` for machines; `files` puts all of it on disk, `notify` runs the user's command.
"""

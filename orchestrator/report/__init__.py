# SPDX-License-Identifier: GPL-2.0-only
"""Results for people and for machines: pure functions of a `Run` and its `CaseResult`s.

`verdict` counts and computes the exit code, `text` is for terminals, `json`, `junit` and `ktap` for
machines, `reproduce` writes the line that reproduces a case, `directory` puts all of it on disk.
"""

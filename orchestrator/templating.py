# SPDX-License-Identifier: GPL-2.0-only
"""The templates in orchestrator/templates, and how each kind of text is made of them."""

from __future__ import annotations

from collections.abc import Callable

import jinja2


def page_templates(finalize: Callable[[object], object] | None = None) -> jinja2.Environment:
    """For HTML: whatever is put in is escaped. finalize: done to each value before that."""
    return _environment(autoescape=True, finalize=finalize)


def text_templates() -> jinja2.Environment:
    """For scripts, units, TOML and Markdown: what is put in stays as it is, so that each value goes
    through a filter that makes it safe there; the last newline stays."""
    return _environment(autoescape=False, keep_trailing_newline=True)


def _environment(
    *,
    autoescape: bool,
    keep_trailing_newline: bool = False,
    finalize: Callable[[object], object] | None = None,
) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("orchestrator"),
        undefined=jinja2.StrictUndefined,  # a name that is missing is a mistake of ours
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=keep_trailing_newline,
        finalize=finalize,
    )

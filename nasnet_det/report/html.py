"""Self-contained HTML pages from the templates: nothing that a network must fetch."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, StrictUndefined


def render_page(template: str, **values: object) -> str:
    """A page.

    Args:
        template: name of a file in ``templates/`` without ``.html.j2``.
        **values: what it shows; all text is escaped.
    """
    environment = Environment(
        loader=PackageLoader(__package__ or "nasnet_det.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment.get_template(f"{template}.html.j2").render(**values)

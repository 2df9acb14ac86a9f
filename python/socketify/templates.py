"""Template engines for ``app.template`` and ``res.render``: Jinja2 and Mako.

Each is imported when one of its engines is made, so this module costs nothing without them::

    pip install socketify[jinja2]
    pip install socketify[mako]

A template that is missing, or that fails, raises in ``res.render``: the error handler of the application hears of it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

__all__ = ["Jinja2Template", "MakoTemplate"]

_Path = str | os.PathLike[str]

#: What becomes HTML, and is therefore escaped.
_ESCAPED = ("html", "htm", "xhtml", "xml", "svg", "jinja", "jinja2", "j2")


class Jinja2Template:
    """Jinja2 as the template engine of an application.

    Values are escaped in templates whose names end in ``.html``, ``.htm``, ``.xhtml``, ``.xml``, ``.svg``,
    ``.jinja``, ``.jinja2`` or ``.j2``, and in templates without a name; ``autoescape=False`` turns it off, as
    ``| safe`` does for one value. Jinja2's own default is to escape nothing.

    Args:
        searchpath: The directory of the templates, or several, searched in order.
        encoding: The encoding of the files.
        followlinks: Whether symbolic links to directories are followed when templates are listed.
        loader: Any loader of Jinja2 in place of the directories.
        environment: A ready environment, which is used as it is, in place of all of the above.
        **options: Options of :class:`jinja2.Environment`, such as ``undefined``, ``extensions`` or ``auto_reload``. With
            ``enable_async=True`` templates can await, and are rendered by :meth:`render_async` alone.

    Attributes:
        env: The environment, to add filters, tests and globals to.

    Raises:
        ImportError: Jinja2 is not installed.
        TypeError: Not exactly one of ``searchpath``, ``loader`` and ``environment`` was given, or an option besides an
            environment.
    """

    def __init__(
        self,
        searchpath: _Path | Sequence[_Path] | None = None,
        encoding: str = "utf-8",
        followlinks: bool = False,
        *,
        loader: jinja2.BaseLoader | None = None,
        environment: jinja2.Environment | None = None,
        **options: Any,
    ) -> None:
        module: Any = _import("jinja2", type(self).__name__)
        if sum(given is not None for given in (searchpath, loader, environment)) != 1:
            raise TypeError("Jinja2Template needs one of searchpath, loader and environment")
        if environment is not None:
            if options:
                raise TypeError(f"the environment is made already: it does not take {', '.join(options)}")
            self.env: jinja2.Environment = environment
            return
        if loader is None:
            loader = module.FileSystemLoader(searchpath, encoding, followlinks)
        options.setdefault("autoescape", _is_escaped)
        self.env = module.Environment(loader=loader, **options)

    def render(self, templatename: str, /, **kwargs: Any) -> str:
        """Renders a template; what ``res.render`` calls.

        Args:
            templatename: Its path below the directory, with forward slashes.
            **kwargs: The template's variables.

        Returns:
            The text.

        Raises:
            jinja2.TemplateNotFound: There is no such template.
            RuntimeError: The environment is asynchronous; see :meth:`render_async`.
            Exception: What the template raises.
        """
        if self.env.is_async:
            raise RuntimeError("templates with enable_async are rendered by: await engine.render_async(...)")
        return self.env.get_template(templatename).render(**kwargs)

    async def render_async(self, templatename: str, /, **kwargs: Any) -> str:
        """Renders a template that may await, in an environment with ``enable_async=True``; see :meth:`render`.

        In a handler: ``res.send(await engine.render_async("page.html"), content_type="text/html")``.
        """
        return await self.env.get_template(templatename).render_async(**kwargs)


class MakoTemplate:
    """Mako as the template engine of an application.

    Values are escaped for HTML; ``${value | n}`` writes one as it is, and ``default_filters=["str"]``, which is Mako's own
    default, all of them. Mako's templates are Python programs: use none that somebody else has written.

    Args:
        directories: The directory of the templates, or several, searched in order.
        **options: Options of :class:`mako.lookup.TemplateLookup`, such as ``input_encoding``, ``output_encoding`` (then
            :meth:`render` gives bytes), ``module_directory`` or ``filesystem_checks``.

    Attributes:
        lookup: The lookup.

    Raises:
        ImportError: Mako is not installed.
    """

    def __init__(self, directories: _Path | Sequence[_Path], **options: Any) -> None:
        module = _import("mako", type(self).__name__, "mako.lookup")
        if isinstance(directories, (str, os.PathLike)):
            directories = [directories]
        options.setdefault("default_filters", ["h"])
        self.lookup: Any = module.TemplateLookup([os.fspath(path) for path in directories], **options)

    def render(self, templatename: str, /, **kwargs: Any) -> str | bytes:
        """Renders a template; what ``res.render`` calls.

        Args:
            templatename: Its path below the directory.
            **kwargs: The template's variables.

        Returns:
            The text, or bytes with ``output_encoding``.

        Raises:
            mako.exceptions.TopLevelLookupException: There is no such template.
            Exception: What the template raises.
        """
        page: str | bytes = self.lookup.get_template(templatename).render(**kwargs)
        return page


def _is_escaped(name: str | None) -> bool:
    """Whether values in a template of this name are escaped."""
    return name is None or name.lower().rpartition(".")[2] in _ESCAPED


def _import(package: str, engine: str, module: str | None = None) -> Any:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ImportError(
            f"{engine} needs {package}: pip install socketify[{package}]", name=package
        ) from error
    return importlib.import_module(module or package)

"""The page as a part of the service's application."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio

from sottovoce.serving.page import align_tab, batch_tab, conversation_tab, tools, transcribe_tab
from sottovoce.serving.page.parts import Page
from sottovoce.serving.page.texts import translations

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sottovoce.serving.service import Service

_KEPT = (60, 900)
"""Seconds between looks at the visitors' files, and seconds that those are kept."""


def mount_page(app: FastAPI, service: Service) -> FastAPI:
    """Add the page at ``/`` to an application that has all its other routes, and return the application."""
    # Gradio asks another host for its newest version, and sends statistics, unless this forbids it before.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    directory = Path(tempfile.mkdtemp(prefix="sottovoce-page-"))
    # Gradio reads the variable whenever it keeps a file.
    os.environ["GRADIO_TEMP_DIR"] = str(directory)
    weakref.finalize(app, shutil.rmtree, directory, ignore_errors=True)

    keys = service.settings.keys
    labels = translations()
    gradio.mount_gradio_app(
        app,
        build_page(service, directory, labels),
        path="/",
        auth=(lambda _, password: keys.accept(password)) if keys else None,
        auth_message="Any name; the password is an API key.",
        allowed_paths=[],
        show_error=False,
        max_file_size=service.settings.limits.upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=["settings"],
        pwa=False,
        mcp_server=service.settings.mcp,
        i18n=labels,
        # Names of fonts of the system: Gradio's own would come from another host, and have no Chinese.
        theme=gradio.themes.Default(
            font=["system-ui", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css_paths=[Path(__file__).parent / "page.css"],
    )
    return app


def build_page(service: Service, directory: Path, labels: Any) -> Any:
    """Return Gradio's blocks of the page: a tab for each thing that the models do."""
    models = service.models
    page = Page(service, directory, labels)
    names = " · ".join(served.name for served in models)
    with gradio.Blocks(title="Sottovoce", analytics_enabled=False, delete_cache=_KEPT, fill_width=True) as blocks:
        gradio.Markdown(f"# Sottovoce\n{names}")
        with gradio.Tabs():
            if models.first.transcribes:
                transcribe_tab.add_tab(page)
                batch_tab.add_tab(page)
            if models.aligner is not None:
                align_tab.add_tab(page)
            if models.first.converses:
                conversation_tab.add_tab(page)
        if service.settings.mcp:
            tools.add_tools(page, directory)

        def leave(request: gradio.Request) -> None:
            page.sessions.stop(request)

        blocks.unload(leave)
    blocks.queue(
        max_size=service.settings.limits.waiting + service.settings.limits.running,
        default_concurrency_limit=service.settings.limits.running,
        api_open=False,
    )
    return blocks

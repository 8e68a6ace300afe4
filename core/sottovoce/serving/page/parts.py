"""Parts that all tabs of the page share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio

from sottovoce.serving.page.downloads import Downloads
from sottovoce.serving.page.session import Sessions
from sottovoce.serving.page.texts import label

if TYPE_CHECKING:
    from sottovoce.serving.service import Service


class Page:
    """Page while it is built: the service, its visitors and their files.

    Args:
        service: The service.
        directory: A directory of the page alone, for files of its visitors.
        translations: Gradio's translations.
    """

    def __init__(self, service: Service, directory: Path, translations: Any) -> None:
        self.service, self._translations = service, translations
        self.sessions, self.downloads = Sessions(service), Downloads(directory)

    def label(self, key: str) -> Any:
        """Return a text that changes with the browser's language."""
        return label(self._translations, key)

    def script(self, name: str) -> str:
        """Return a script that lies beside this file."""
        return (Path(__file__).parent / name).read_text(encoding="utf-8")

    def on(self, event: Any, function: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Call a function on an event of a component; requests of visitors take turns in the model, not here."""
        event(
            function,
            inputs=inputs,
            outputs=outputs,
            api_visibility="private",
            concurrency_limit=self.service.settings.limits.running,
            concurrency_id="model",
            show_progress="hidden",
        )

    def on_stop(self, button: Any) -> None:
        """Let a button stop what its visitor has running."""

        def stop(request: gradio.Request) -> None:
            self.sessions.stop(request)

        button.click(stop, api_visibility="private", queue=False, show_progress="hidden")


def audio_input(page: Page) -> Any:
    """Return the component that takes a file or a recording."""
    sources: list[Any] = ["upload", "microphone"]
    return gradio.Audio(
        label=page.label("audio"), sources=sources, type="filepath", elem_classes="audio", buttons=["download"]
    )


def files_output(page: Page, name: str) -> Any:
    """Return the component with files to download; it is hidden while there are none."""
    label = page.label("download")
    return gradio.File(label=label, file_count="multiple", interactive=False, elem_id=name, visible=False)


def shown_files(paths: Sequence[str] | None) -> Any:
    """Return what the component with files becomes."""
    return gradio.File(value=list(paths or ()), visible=bool(paths))


def stop_button(page: Page) -> Any:
    """Return the button that stops work."""
    return gradio.Button(page.label("stop"))

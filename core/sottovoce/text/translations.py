"""Short texts in English and Chinese, which travel in reports to model cards."""

from __future__ import annotations

from types import MappingProxyType

from pydantic import BaseModel, ConfigDict


class Text(BaseModel):
    """One text in the languages of model cards."""

    model_config = ConfigDict(frozen=True)

    en: str
    """English."""
    zh: str = ""
    """Chinese; without it, the English text stands in its place."""

    def in_language(self, language: str) -> str:
        """Return the text in ``en`` or ``zh``; the English one where there is no other."""
        return (self.zh if language == "zh" else "") or self.en

    def __str__(self) -> str:
        """Return the English text."""
        return self.en


MODALITIES = MappingProxyType(
    {
        "all": Text(en="all tokens", zh="全部 token"),
        "text": Text(en="text", zh="文本"),
        "audio": Text(en="audio", zh="音频"),
        "image": Text(en="image", zh="图像"),
        "video": Text(en="video", zh="视频"),
    }
)
"""Names of the kinds of samples and tokens."""

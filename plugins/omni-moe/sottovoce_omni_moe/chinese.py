"""The sentences of this family's facts in Chinese, for model cards."""

from __future__ import annotations

CHINESE = {
    "audio and vision towers: the recipe int8-towers has them": "音频塔与视觉塔：配方 int8-towers 会压缩它们",
    "code predictor: long speech degrades when it is quantized": "编码预测器：量化后长语音质量会下降",
    "projection from the thinker: small, and all speech passes it": "来自 thinker 的投影层：很小，而全部语音都要经过它",
    "experts: transformers stacks them when it loads them, which integers for inputs do not survive": "专家：transformers 加载时会把它们叠放在一起，整数输入无法保留",
}

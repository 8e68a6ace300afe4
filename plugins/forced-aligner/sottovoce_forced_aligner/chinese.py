"""The sentences of this family's facts in Chinese, for model cards."""

from __future__ import annotations

CHINESE = {
    "output layer: a near tie moves a word boundary by many 80 ms bins": "输出层：得分相近时，词边界会偏移许多个 80 ms 的时间格",
    "convolutional stem: half a percent of the weights": "卷积前端：占权重的 0.5 %",
    "all audio passes it, and its inputs have a wide range: rounded, they move as many boundaries as all other layers together, nearly": "所有音频都要经过它，且其输入的取值范围很宽：若对输入取整，移动的边界几乎与其他所有层之和一样多",
    "all audio passes it": "所有音频都要经过它",
    "first text layers: their inputs have a wide range, and what is rounded in them passes through all others": "最前的文本层：其输入的取值范围很宽，且取整误差会传经其后的所有层",
}

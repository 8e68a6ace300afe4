"""The sentences of this family's facts in Chinese, for model cards."""

from __future__ import annotations

CHINESE = {
    "FSMN memory: a depthwise convolution, 0.1 % of the weights": "FSMN 记忆模块：逐通道卷积，占权重的 0.1 %",
    "CIF predictor: its weights add up to the number of tokens, so a small error drops one": "CIF 预测器：其权重之和即 token 数，微小误差就会丢失一个 token",
    "output layer: near ties between characters; FunASR's int8 keeps it too": "输出层：字与字之间得分相近；FunASR 的 int8 同样保留它",
    "hotword path: as FunASR's int8 keeps it": "热词通路：与 FunASR 的 int8 一样予以保留",
    "output layer: its scores are compared with a threshold": "输出层：其得分要与阈值比较",
    "FSMN memory: a depthwise convolution": "FSMN 记忆模块：逐通道卷积",
    "convolution: only linear layers are quantized": "卷积：只量化线性层",
    "embedding table: looked up, not multiplied; it is most of this model": "嵌入表：只查表，不参与乘法；占本模型的绝大部分",
}
